#pragma once

#include <span>

#include "base/compute_pool.h"
#include "ops/ops.h"

namespace sluice::ops::cpu {

// Ops::SelectKeys. Rows of one sequence go in groups that share each page's keys; a step of few rows also
// cuts the context into segments, whose candidates are merged exactly. Scratch grows with top_k and threads,
// not with the context.
void SelectKeys(const IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                const PagedCache& index_keys, std::span<const RowPlace> places,
                std::span<const PageTable> pages, const Tensor& selection, ComputePool& pool);

}  // namespace sluice::ops::cpu
