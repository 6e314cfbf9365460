#pragma once

#include <string_view>

namespace sluice::text {

// What JSON calls white space.
inline constexpr std::string_view kWhiteSpace = " \t\r\n";

// `text` without white space around it.
inline std::string_view Trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kWhiteSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kWhiteSpace) - first + 1);
}

}  // namespace sluice::text
