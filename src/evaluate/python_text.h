#pragma once

#include <string>
#include <string_view>

namespace sluice::evaluate {

// Texts as Python sees and writes them, for scores and files that are to equal those of the reference's
// tools.

// A decimal digit of any script: what \d matches in Python's re (Unicode 14, category Nd).
bool IsDecimalDigit(char32_t c);

// str.strip(): without white space (str.isspace) at both ends. `text` is UTF-8.
std::string_view Stripped(std::string_view text);

// The first character of `text`, all its bytes; empty when there is none.
std::string_view FirstCharacter(std::string_view text);

// repr() of a finite float: the shortest digits that read back, with ".0" where it would look like an
// integer.
std::string FloatText(double value);

// round(value, 3).
double RoundedTo3(double value);

}  // namespace sluice::evaluate
