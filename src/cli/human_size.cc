#include "cli/human_size.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "base/error.h"

namespace sluice::cli {
namespace {

// 0: not a unit.
int64_t UnitOf(std::string_view unit) {
  if (unit.empty()) return 1;
  const bool binary = unit.size() == 2 && unit[1] == 'i';
  if (unit.size() > 1 && !binary) return 0;
  const int64_t base = binary ? 1024 : 1000;
  switch (unit[0]) {
    case 'k':
    case 'K':
      return base;
    case 'M':
      return base * base;
    case 'G':
      return base * base * base;
    default:
      return 0;
  }
}

}  // namespace

int64_t ParseCount(std::string_view text) {
  const auto refuse = [&] {
    Fail(ErrorKind::kUsage,
         "{} is not a whole number: use one such as 131072, 128k (128,000), 128Ki (131,072) or 1M", text);
  };
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  int64_t whole = 0;
  const auto [after, error] = std::from_chars(at, end, whole);
  if (error != std::errc()) refuse();
  at = after;
  // Digits after the point, as an integer over a power of ten: no rounding.
  int64_t part = 0;
  int64_t over = 1;
  if (at != end && *at == '.') {
    for (++at; at != end && *at >= '0' && *at <= '9' && over < 1'000'000'000; ++at) {
      part = part * 10 + (*at - '0');
      over *= 10;
    }
    if (over == 1) refuse();
  }
  const int64_t unit = UnitOf({at, static_cast<std::size_t>(end - at)});
  if (unit == 0 || whole > std::numeric_limits<int64_t>::max() / unit - 1 ||
      whole < -(std::numeric_limits<int64_t>::max() / unit)) {
    refuse();
  }
  if (part * unit % over != 0 || (text.front() == '-' && part != 0)) refuse();
  return whole * unit + part * unit / over;
}

CLI::Validator HumanCount() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        try {
          text = fmt::to_string(ParseCount(text));
          return "";
        } catch (const Error& error) {
          return error.what();
        }
      },
      "COUNT");
}

}  // namespace sluice::cli
