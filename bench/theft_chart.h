#pragma once

#include <array>
#include <string>
#include <vector>

namespace sluice::bench {

// Times of one kernel beside one neighbour and beside four, as multiples of its time alone.
struct TheftRow {
  std::string kernel;
  std::array<double, 2> fixed{};     // tiles fixed
  std::array<double, 2> counter{};   // drawn from a counter
  std::array<double, 2> reserved{};  // the same, on as many SMs fewer
};

// A point for each of them on a line for each kernel, as an SVG document. Names are XML text.
std::string TheftChart(const std::vector<TheftRow>& rows, const std::string& gpu);

}  // namespace sluice::bench
