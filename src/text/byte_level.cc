#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace sluice::text {
namespace {

constexpr char32_t kAlphabetEnd = 0x144;

constexpr bool StandsForItself(char32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int, kAlphabetEnd> bytes;  // by code point; -1: not in the alphabet

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t code_point =
          StandsForItself(static_cast<char32_t>(byte)) ? static_cast<char32_t>(byte) : next++;
      AppendUtf8(code_point, characters[static_cast<std::size_t>(byte)]);
      bytes[code_point] = byte;
    }
  }
};

const Alphabet& TheAlphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

std::string_view AlphabetCharacter(unsigned char byte) { return TheAlphabet().characters[byte]; }

std::string ToAlphabet(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) text.append(AlphabetCharacter(static_cast<unsigned char>(byte)));
  return text;
}

std::optional<std::string> FromAlphabet(std::string_view text) {
  const Alphabet& alphabet = TheAlphabet();
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = FirstUtf8Unit(text).length;
    const char32_t code_point = CodePoint(text.substr(0, length));
    if (code_point >= kAlphabetEnd || alphabet.bytes[code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(alphabet.bytes[code_point]));
    text.remove_prefix(length);
  }
  return bytes;
}

}  // namespace sluice::text
