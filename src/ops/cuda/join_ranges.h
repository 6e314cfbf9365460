#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/expert_terms.h"

namespace sluice::ops::cuda {

// Where a list of joins can be cut: 0, then the end of each range, the last of them joins.size(). No node of
// a range is touched by another, and no range can be cut again. Linear in the list; `nodes` is the number of
// rows that the joins index. Pure.
std::vector<int64_t> IndependentRanges(std::span<const NodeJoin> joins, int64_t nodes);

}  // namespace sluice::ops::cuda
