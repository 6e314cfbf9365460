#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace sluice::serve {

// JSON that we write. Members keep the order in which they were added.
using Json = nlohmann::ordered_json;

// One line of text. Finite numbers read back as exactly the same double, and so does a float stored as one;
// NaN and infinities become null; bytes that are not UTF-8 become U+FFFD.
inline std::string ToText(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace sluice::serve
