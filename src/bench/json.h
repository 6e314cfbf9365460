#pragma once

#include <nlohmann/json.hpp>

namespace sluice::bench {

// Members stay in the order in which they were put in.
using Json = nlohmann::ordered_json;

}  // namespace sluice::bench
