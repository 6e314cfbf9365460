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

// Which layers each stage owns. The default gives every stage layers / stages, and the last
// layers % stages stages one more (61 over 2: 30, 31). Throws Error(kUsage) when stages > layers.
std::vector<LayerRange> DefaultLayerCut(int64_t layers, int stages);

// The cut with the given number of layers per stage. Throws Error(kUsage), showing the default cut, when the
// count of sizes is not `stages`, a size is < 1 or their sum is not `layers`.
std::vector<LayerRange> ExplicitLayerCut(int64_t layers, int stages, std::span<const int64_t> sizes);

}  // namespace sluice::parallel
