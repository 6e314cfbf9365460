#pragma once

#include <string>
#include <vector>

namespace sluice::evaluate {

// The cells of a column as "{}".format shows them after pandas.read_csv: a column of integers, of numbers or
// of booleans becomes one, so that " 7" is shown as 7 and, among decimals, 7 as 7.0; NA, None and their like
// become nan. Everything else stays the text it is. The reference's prompts are made this way.
void AsPandasShows(std::vector<std::string>& column);

}  // namespace sluice::evaluate
