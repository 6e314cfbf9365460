#pragma once

#include <cmath>
#include <vector>

namespace sluice::model {

// For tests: |got - want| / |want|.
inline double RelativeRms(const std::vector<float>& got, const std::vector<float>& want) {
  double difference = 0.0;
  double size = 0.0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (double{got[i]} - want[i]) * (double{got[i]} - want[i]);
    size += double{want[i]} * want[i];
  }
  return std::sqrt(difference / size);
}

}  // namespace sluice::model
