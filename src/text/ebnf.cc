#include "text/ebnf.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "text/utf8.h"

namespace sluice::text {
namespace {

std::string Character(char32_t code_point) {
  const auto value = static_cast<uint32_t>(code_point);
  const bool plain = (value >= 'a' && value <= 'z') || (value >= 'A' && value <= 'Z') ||
                     (value >= '0' && value <= '9') || value == ' ' || value == '_';
  if (plain) return std::string(1, static_cast<char>(value));
  return value <= 0xFFFF ? fmt::format("\\u{:04X}", value) : fmt::format("\\U{:08X}", value);
}

bool HoldsAllWide(std::span<const std::pair<char32_t, char32_t>> ranges) {
  bool below = false;
  for (const auto& [first, last] : ranges) {
    below = below || (first <= 0x80 && last >= 0xD7FF);
    if (first <= 0xE000 && last >= 0x10FFFF) return below;
  }
  return false;
}

}  // namespace

std::string EbnfLiteral(std::string_view utf8) {
  std::string literal = "\"";
  while (!utf8.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(utf8);
    literal += Character(CodePoint(utf8.substr(0, unit.length)));
    utf8.remove_prefix(unit.length);
  }
  return literal + '"';
}

std::string EbnfClass(std::span<const std::pair<char32_t, char32_t>> ranges) {
  constexpr char32_t kWide = 0x80;
  constexpr int64_t kMostWide = 256;
  std::string ascii;    // the ranges below kWide
  std::string missing;  // what is between them
  std::string wide;
  int64_t wide_count = 0;
  char32_t next = 0;
  const auto append = [](std::string& list, char32_t first, char32_t last) {
    list += Character(first) + '-' + Character(last);
  };
  for (const auto& [first, last] : ranges) {
    if (first < kWide) {
      append(ascii, first, std::min<char32_t>(last, kWide - 1));
      if (first > next) append(missing, next, first - 1);
      next = last + 1;
    }
    for (char32_t c = std::max<char32_t>(first, kWide); c <= last && wide_count <= kMostWide; ++c) {
      wide += (wide.empty() ? "\"" : " | \"") + Character(c) + '"';
      ++wide_count;
    }
  }
  if (next < kWide) append(missing, next, kWide - 1);
  if (wide_count == 0) return '[' + ascii + ']';
  // xgrammar's classes tell characters from each other only in ASCII; a negated one also takes all others.
  if (HoldsAllWide(ranges)) return missing.empty() ? "([^a] | \"a\")" : "[^" + missing + ']';
  if (wide_count > kMostWide) {
    Fail(ErrorKind::kBadRequest,
         "a class of characters has more than {} and not all of those beyond ASCII: name fewer of them",
         kMostWide);
  }
  return fmt::format("({}{}{})", wide, ascii.empty() ? "" : " | ", ascii.empty() ? "" : '[' + ascii + ']');
}

std::string EbnfRepeat(const std::string& item, int64_t least, int64_t most) {
  std::string written;
  for (int64_t i = 0; i < least; ++i) written += item + ' ';
  if (most < 0) return written + item + '*';
  std::string closing;
  for (int64_t i = least; i < most; ++i) {
    written += '(' + item + ' ';
    closing += ")?";
  }
  written += closing;
  return written.empty() ? "\"\"" : '(' + written + ')';
}

}  // namespace sluice::text
