#include "evaluate/pandas_column.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "evaluate/python_text.h"

namespace sluice::evaluate {
namespace {

bool IsMissing(std::string_view cell) {
  static constexpr std::array<std::string_view, 19> kMissing = {
      "",     "#N/A", "#N/A N/A", "#NA",  "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
      "<NA>", "N/A",  "NA",       "NULL", "NaN",     "None",     "n/a",  "nan",  "null"};
  return std::ranges::find(kMissing, cell) != kMissing.end();
}

std::string_view WithoutSpaces(std::string_view cell) {
  while (!cell.empty() && (cell.front() == ' ' || (cell.front() >= '\t' && cell.front() <= '\r'))) {
    cell.remove_prefix(1);
  }
  while (!cell.empty() && (cell.back() == ' ' || (cell.back() >= '\t' && cell.back() <= '\r'))) {
    cell.remove_suffix(1);
  }
  return cell;
}

// Without spaces and a plus sign; what is left of an integer is digits, perhaps behind a minus.
std::string_view Bare(std::string_view cell) {
  cell = WithoutSpaces(cell);
  if (cell.starts_with('+') && !cell.starts_with("+-")) cell.remove_prefix(1);
  return cell;
}

bool IsInteger(std::string_view cell) {
  cell = Bare(cell);
  if (cell.starts_with('-')) cell.remove_prefix(1);
  return !cell.empty() && cell.find_first_not_of("0123456789") == std::string_view::npos;
}

template <typename Integer>
std::optional<Integer> IntegerOf(std::string_view cell) {
  cell = Bare(cell);
  Integer number{};
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), number);
  if (error != std::errc{} || end != cell.data() + cell.size()) return std::nullopt;
  return number;
}

std::optional<double> FloatOf(std::string_view cell) {
  cell = Bare(cell);
  double number = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), number);
  if (error == std::errc::invalid_argument || end != cell.data() + cell.size() || std::isnan(number)) {
    return std::nullopt;
  }
  // Beyond a double's range: infinity, or 0.
  return error == std::errc{} ? number : std::strtod(std::string(cell).c_str(), nullptr);
}

std::optional<bool> BooleanOf(std::string_view cell) {
  if (cell == "True" || cell == "TRUE" || cell == "true") return true;
  if (cell == "False" || cell == "FALSE" || cell == "false") return false;
  return std::nullopt;
}

template <typename Of>
bool AllAre(const std::vector<std::string>& column, Of of) {
  return std::ranges::all_of(column, [&of](const std::string& cell) { return IsMissing(cell) || of(cell); });
}

// A column of one kind: every cell through `show`, missing ones as nan.
template <typename Show>
void ShowAll(std::vector<std::string>& column, Show show) {
  for (std::string& cell : column) cell = IsMissing(cell) ? "nan" : show(cell);
}

std::string ShownFloat(double value) {
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return FloatText(value);
}

}  // namespace

void AsPandasShows(std::vector<std::string>& column) {
  const bool missing = std::ranges::any_of(column, IsMissing);
  const auto is_number = [](const std::string& cell) { return FloatOf(cell).has_value(); };
  const auto is_boolean = [](const std::string& cell) { return BooleanOf(cell).has_value(); };
  if (!missing && AllAre(column, IsInteger)) {
    const bool fits =
        AllAre(column, [](const std::string& cell) { return IntegerOf<int64_t>(cell).has_value(); });
    const bool large =
        AllAre(column, [](const std::string& cell) { return IntegerOf<uint64_t>(cell).has_value(); });
    if (fits) {
      ShowAll(column, [](const std::string& cell) { return fmt::format("{}", *IntegerOf<int64_t>(cell)); });
    } else if (large) {
      ShowAll(column, [](const std::string& cell) { return fmt::format("{}", *IntegerOf<uint64_t>(cell)); });
    }
  } else if (AllAre(column, is_number)) {
    ShowAll(column, [](const std::string& cell) { return ShownFloat(*FloatOf(cell)); });
  } else if (AllAre(column, is_boolean)) {
    ShowAll(column, [](const std::string& cell) { return *BooleanOf(cell) ? "True" : "False"; });
  } else {
    ShowAll(column, [](const std::string& cell) { return cell; });
  }
}

}  // namespace sluice::evaluate
