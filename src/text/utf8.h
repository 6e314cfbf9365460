#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::text {

// U+FFFD, which stands for bytes that are no character.
inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// One step through bytes that ought to be UTF-8 (RFC 3629: no surrogates, nothing above U+10FFFF, shortest
// form).
struct Utf8Unit {
  enum class Kind {
    kCharacter,  // `length` bytes are one code point
    kInvalid,    // `length` bytes are a maximal subpart: one U+FFFD (Unicode 3.9, table 3-8; WHATWG Encoding)
    kIncomplete,  // the bytes end inside what may still become a code point; `length` is all that is left
  };
  Kind kind;
  std::size_t length;  // bytes, 1..4
};

// The first unit of `bytes`, which must not be empty.
Utf8Unit FirstUtf8Unit(std::string_view bytes);

// The code point of a valid character, 1..4 bytes long.
char32_t CodePoint(std::string_view character);

// Appends the UTF-8 form of a code point that is no surrogate and at most U+10FFFF.
void AppendUtf8(char32_t code_point, std::string& out);

// Appends `bytes` to `out` with one U+FFFD for each maximal subpart of an ill-formed sequence, as Python's
// bytes.decode(errors="replace") and Rust's String::from_utf8_lossy do, and leaves out an incomplete
// sequence at the end. Returns the bytes consumed: bytes.size() minus 0..3.
std::size_t AppendRepaired(std::string_view bytes, std::string& out);

// The same with one U+FFFD for an incomplete sequence at the end: always valid UTF-8.
std::string RepairUtf8(std::string_view bytes);

}  // namespace sluice::text
