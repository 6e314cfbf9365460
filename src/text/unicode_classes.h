#pragma once

#include <string_view>

namespace sluice::text {

// Unicode general categories as the Hugging Face tokenizers library knows them: Unicode 16. PCRE2 10.42 knows
// Unicode 14; between the two no character changed its category, some were added.

// What is to be written beside \p{category} inside a PCRE2 character class so that it means Unicode 16: the
// ranges that Unicode 15, 15.1 and 16 added. `category` is one of "L", "M", "N", "P", "S"; any other gives an
// empty view.
std::string_view AddedSinceUnicode14(std::string_view category);

// The inside of a PCRE2 character class for \s as Oniguruma has it, the property White_Space. PCRE2's own \s
// also takes U+180E.
std::string_view WhiteSpace();

}  // namespace sluice::text
