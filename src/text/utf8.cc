#include "text/utf8.h"

#include "base/error.h"

namespace sluice::text {
namespace {

struct Lead {
  std::size_t length;               // bytes of the sequence; 0: not a lead byte
  unsigned char second_min = 0x80;  // bounds of the second byte; they rule out overlong forms, surrogates
  unsigned char second_max = 0xBF;  // and values above U+10FFFF (Unicode table 3-7)
};

Lead LeadOf(unsigned char byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

}  // namespace

Utf8Unit FirstUtf8Unit(std::string_view bytes) {
  using Kind = Utf8Unit::Kind;
  SLUICE_CHECK(!bytes.empty(), "a unit was asked of no bytes");
  const Lead lead = LeadOf(static_cast<unsigned char>(bytes[0]));
  if (lead.length == 0) return {Kind::kInvalid, 1};
  for (std::size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {Kind::kIncomplete, i};
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const unsigned char low = i == 1 ? lead.second_min : 0x80;
    const unsigned char high = i == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) return {Kind::kInvalid, i};
  }
  return {Kind::kCharacter, lead.length};
}

char32_t CodePoint(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  char32_t value = first;
  if (character.size() > 1) value = first & (0x7FU >> character.size());
  for (const char next : character.substr(1))
    value = (value << 6) | (static_cast<unsigned char>(next) & 0x3FU);
  return value;
}

void AppendUtf8(char32_t code_point, std::string& out) {
  const auto tail = [&](int shift) {
    out.push_back(static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)));
  };
  if (code_point < 0x80) {
    out.push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (code_point >> 6)));
    tail(0);
  } else if (code_point < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (code_point >> 12)));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | (code_point >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::size_t AppendRepaired(std::string_view bytes, std::string& out) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const Utf8Unit unit = FirstUtf8Unit(bytes.substr(at));
    if (unit.kind == Utf8Unit::Kind::kIncomplete) break;
    out.append(unit.kind == Utf8Unit::Kind::kCharacter ? bytes.substr(at, unit.length) : kReplacement);
    at += unit.length;
  }
  return at;
}

std::string RepairUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  if (AppendRepaired(bytes, out) < bytes.size()) out.append(kReplacement);
  return out;
}

}  // namespace sluice::text
