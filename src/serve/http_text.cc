#include "serve/http_text.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <ctime>

namespace sluice::serve {

std::string HttpDate() {
  return fmt::format("{:%a, %d %b %Y %H:%M:%S GMT}", fmt::gmtime(std::time(nullptr)));
}

bool IsRequestId(std::string_view text) {
  constexpr std::string_view kMarks = "-_.:/+=";
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [&](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || kMarks.find(c) != std::string_view::npos;
  });
}

std::string PathOf(std::string_view target) {
  target = target.substr(0, target.find_first_of("?#"));
  std::string path;
  for (std::size_t i = 0; i < target.size(); ++i) {
    unsigned byte = 0;
    if (target[i] == '%' && i + 2 < target.size()) {
      const char* digits = target.data() + i + 1;
      if (std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
        path += static_cast<char>(byte);
        i += 2;
        continue;
      }
    }
    path += target[i];
  }
  return path;
}

}  // namespace sluice::serve
