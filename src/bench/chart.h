#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::bench {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // (x, y), x ascending; y 0 or more
};

// Lines over one axis that is marked where the points are, and logarithmic when they span more than a factor
// of 8 and are all above 0. The other axis begins at 0.
struct Chart {
  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<Series> series;
};

// An <svg> element of its own, without scripts or anything from elsewhere.
std::string RenderChart(const Chart& chart);

// As text in XML and HTML.
std::string Escaped(std::string_view text);

// The distance between marks of an axis from 0 to `highest`: 1, 2 or 5 times a power of ten, such that there
// are 4 to 10 of them.
double MarkDistance(double highest);

}  // namespace sluice::bench
