#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace sluice::text {

// A string of xgrammar's EBNF that matches exactly `utf8`.
std::string EbnfLiteral(std::string_view utf8);

// A class that matches one character of the ranges, both ends included, ascending, not empty, without
// surrogates. Beyond ASCII a class has all characters or at most 256; Error(kBadRequest) for one in between.
std::string EbnfClass(std::span<const std::pair<char32_t, char32_t>> ranges);

// `item`, `least` to `most` times (-1: any number of times), written out: with a count of its own xgrammar
// can judge tokens only while it makes a mask, one by one, which takes a thousand times as long.
std::string EbnfRepeat(const std::string& item, int64_t least, int64_t most);

}  // namespace sluice::text
