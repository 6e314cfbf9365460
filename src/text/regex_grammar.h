#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::text {

inline constexpr std::size_t kMaxRegexBytes = 4096;
inline constexpr int kMaxRegexDepth = 32;
inline constexpr int64_t kMaxRegexRepeats = 1000;  // of one quantifier
// Characters of the pattern with all counts written out, classes and `.` counting 16 times. This bounds the
// time of a compilation: a few seconds at the limit with DeepSeek's vocabulary.
inline constexpr int64_t kMaxRegexSize = 1024;
// The same where counts surround parts that are themselves of varying length: a text may then be read in many
// ways, and all of them are followed whenever a mask is made.
inline constexpr int64_t kMaxRegexNestedSize = 256;

// The rules (EBNF as xgrammar reads it) of the texts that a regular expression matches as a whole. Supported:
// literals, `.` (all but a line break), classes, \d \w \s and their negations (ASCII), \t \n \r \f \v \0,
// \xHH, \uHHHH, groups, alternatives, * + ? {n} {n,} {n,m}, lazy or not; ^ at the very start and $ at the
// very end say what holds anyway. Error(kBadRequest) with the place, counted in characters from 0, for
// everything else. The rules become an automaton that never goes back: time is linear in the answer.
std::string RegexRules(std::string_view pattern);

}  // namespace sluice::text
