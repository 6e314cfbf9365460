#include "ops/cuda/join_ranges.h"

#include <algorithm>
#include <array>

namespace sluice::ops::cuda {

std::vector<int64_t> IndependentRanges(std::span<const NodeJoin> joins, int64_t nodes) {
  std::vector<int64_t> last_touch(static_cast<size_t>(nodes), -1);
  const auto touched = [](const NodeJoin& join) { return std::array{join.left, join.right, join.into}; };
  for (int64_t j = 0; j < std::ssize(joins); ++j) {
    for (const int32_t node : touched(joins[j])) last_touch[node] = j;
  }
  // A range ends where none of its nodes is touched any more.
  std::vector<int64_t> ranges{0};
  int64_t needed = -1;
  for (int64_t j = 0; j < std::ssize(joins); ++j) {
    for (const int32_t node : touched(joins[j])) needed = std::max(needed, last_touch[node]);
    if (needed == j) ranges.push_back(j + 1);
  }
  return ranges;
}

}  // namespace sluice::ops::cuda
