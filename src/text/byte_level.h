#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::text {

// The byte-level alphabet of tokenizer.json: each of the 256 bytes is written as one printable character.
// Bytes 0x21..0x7E, 0xA1..0xAC and 0xAE..0xFF stand for themselves (as code points); the other 68, in
// ascending order, are U+0100..U+0143. So a space is U+0120.

// The character of a byte, as UTF-8.
std::string_view AlphabetCharacter(unsigned char byte);

// Raw bytes to the alphabet.
std::string ToAlphabet(std::string_view bytes);

// The alphabet to raw bytes; nullopt when a character is none of the 256. `text` must be valid UTF-8.
std::optional<std::string> FromAlphabet(std::string_view text);

}  // namespace sluice::text
