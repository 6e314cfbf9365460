#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace sluice::evaluate {

// Members keep the order in which they were added.
using Json = nlohmann::ordered_json;

// Finite numbers read back as exactly the same double; bytes that are not UTF-8 become U+FFFD.
inline std::string ToText(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace sluice::evaluate
