#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice::parallel {

struct LayerRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const LayerRange&) const = default;
};

// Which layers each virtual stage owns, in the order of the layers; range v * stages + s is visit v of stage
// s (Grid). The default gives every range layers / ranges, and the last layers % ranges ranges one more (61
// over 2: 30, 31). Throws Error(kUsage) when there are more ranges than layers.
std::vector<LayerRange> DefaultLayerCut(int64_t layers, int stages, int virtual_stages = 1);

// The cut with the given number of layers per range. Throws Error(kUsage), showing the default cut, when the
// count of sizes is not stages * virtual_stages, a size is < 1 or their sum is not `layers`.
std::vector<LayerRange> ExplicitLayerCut(int64_t layers, int stages, std::span<const int64_t> sizes,
                                         int virtual_stages = 1);

}  // namespace sluice::parallel
