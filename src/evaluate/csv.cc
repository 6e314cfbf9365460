#include "evaluate/csv.h"

#include <utility>

namespace sluice::evaluate {

std::vector<CsvRow> ReadCsv(std::string_view text) {
  std::vector<CsvRow> rows;
  int64_t line = 1;
  std::size_t at = 0;
  while (at < text.size()) {
    CsvRow row;
    row.line = line;
    bool blank = true;  // so far neither a comma nor a quote nor a character
    std::string cell;
    bool quoted = false;
    for (;; ++at) {
      if (at == text.size()) {
        row.closed = !quoted;
        break;
      }
      const char c = text[at];
      if (c == '\n') ++line;
      if (quoted) {
        if (c != '"') {
          cell += c;
        } else if (at + 1 < text.size() && text[at + 1] == '"') {
          cell += c;
          ++at;
        } else {
          quoted = false;
        }
        continue;
      }
      if (c == '\n' || c == '\r') {
        if (c == '\r' && at + 1 < text.size() && text[at + 1] == '\n') {
          ++at;
          ++line;
        }
        ++at;
        break;
      }
      blank = false;
      if (c == ',') {
        row.cells.push_back(std::move(cell));
        cell.clear();
      } else if (c == '"' && cell.empty()) {
        quoted = true;
      } else {
        cell += c;
      }
    }
    if (blank) continue;
    row.cells.push_back(std::move(cell));
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace sluice::evaluate
