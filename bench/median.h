#pragma once

#include <algorithm>
#include <vector>

namespace sluice::bench {

// The middle one of at least one value; of an even number of them the upper of the two.
inline double Median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace sluice::bench
