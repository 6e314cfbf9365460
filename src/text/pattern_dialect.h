#pragma once

#include <string>
#include <string_view>

namespace sluice::text {

// The patterns in tokenizer.json are written for Oniguruma (Ruby syntax, Unicode 16). This rewrites one for
// PCRE2 (UTF and UCP on) so that it matches exactly the same text:
//   \p{L} \p{M} \p{N} \p{P} \p{S}, \P{..}   categories, brought to Unicode 16
//   \s \S                                   White_Space and its complement
//   [...] [^...]                            classes of characters, ranges, \p{..} and \s
//   (?:...) (?i:...) (?=...) (?!...) |      groups and look-ahead
//   ? * + {m} {m,} {m,n}                    and the lazy or possessive forms ?? *? +? ?+ *+ ++
//   \t \n \r \f, \ before punctuation       literals
// Anything else is refused with Error(kModelFiles), because the two libraries may differ on it: the message
// is `where` (a file and a place in it), a colon, and what was found. So are letter pairs in (?i:...) that
// fold to one character (ss, st, ff, fi, fl), which only Oniguruma would match.
std::string PatternForPcre2(std::string_view pattern, std::string_view where);

}  // namespace sluice::text
