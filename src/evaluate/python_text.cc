#include "evaluate/python_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>

#include "text/utf8.h"

namespace sluice::evaluate {
namespace {

// The zeros; nine more digits follow each.
constexpr char32_t kZeros[] = {
    0x0030,  0x0660,  0x06F0,  0x07C0,  0x0966,  0x09E6,  0x0A66,  0x0AE6,  0x0B66,  0x0BE6,  0x0C66,
    0x0CE6,  0x0D66,  0x0DE6,  0x0E50,  0x0ED0,  0x0F20,  0x1040,  0x1090,  0x17E0,  0x1810,  0x1946,
    0x19D0,  0x1A80,  0x1A90,  0x1B50,  0x1BB0,  0x1C40,  0x1C50,  0xA620,  0xA8D0,  0xA900,  0xA9D0,
    0xA9F0,  0xAA50,  0xABF0,  0xFF10,  0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0,
    0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60,
    0x16AC0, 0x16B50, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E950, 0x1FBF0};

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

char32_t PointOf(std::string_view character) {
  return text::FirstUtf8Unit(character).kind == text::Utf8Unit::Kind::kCharacter ? text::CodePoint(character)
                                                                                 : 0xFFFD;
}

}  // namespace

bool IsDecimalDigit(char32_t c) {
  const auto after = std::ranges::upper_bound(kZeros, c);
  return after != std::begin(kZeros) && c - *std::prev(after) < 10;
}

std::string_view FirstCharacter(std::string_view text) {
  return text.empty() ? text : text.substr(0, text::FirstUtf8Unit(text).length);
}

std::string_view Stripped(std::string_view text) {
  while (!text.empty() && IsSpace(PointOf(FirstCharacter(text)))) {
    text.remove_prefix(FirstCharacter(text).size());
  }
  while (!text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80) --begin;
    if (!IsSpace(PointOf(text.substr(begin)))) break;
    text.remove_suffix(text.size() - begin);
  }
  return text;
}

std::string FloatText(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text;
}

// Through the decimal digits, as Python does: value * 1000 would round twice.
double RoundedTo3(double value) { return std::strtod(fmt::format("{:.3f}", value).c_str(), nullptr); }

}  // namespace sluice::evaluate
