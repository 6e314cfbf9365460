#pragma once

#include <fmt/format.h>

#include <string>

// For tests: calls as GLM writes them.
namespace sluice::text {

inline std::string GlmArgument(const std::string& key, const std::string& value) {
  return fmt::format("<arg_key>{}</arg_key><arg_value>{}</arg_value>", key, value);
}
inline std::string GlmCall(const std::string& name, const std::string& inside = "") {
  return fmt::format("<tool_call>{}{}</tool_call>", name, inside);
}

}  // namespace sluice::text
