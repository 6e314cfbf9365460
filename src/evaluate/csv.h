#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::evaluate {

struct CsvRow {
  int64_t line = 0;  // of its first cell, from 1
  std::vector<std::string> cells;
  bool closed = true;  // false: the file ended inside quotes
};

// Rows of comma-separated values (RFC 4180): a cell that begins with a double quote ends with one, may have
// line ends and commas in it, and doubled quotes for one; what stands behind its end belongs to it as it is.
// Blank lines are no rows.
std::vector<CsvRow> ReadCsv(std::string_view text);

}  // namespace sluice::evaluate
