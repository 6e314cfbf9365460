#pragma once

#include <span>

#include "base/compute_pool.h"
#include "ops/ops.h"

namespace sluice::ops::cpu {

// Ops::SparseAttention. A unit of work is a row, a partition of 512 ordinals and a range of heads; prefill
// and decode run the same units.
void SparseAttention(const AttentionShape& shape, const Tensor& q_latent, const PagedCache& latents,
                     std::span<const RowPlace> places, std::span<const PageTable> pages,
                     const Tensor& selection, float scale, const Tensor& o_latent, ComputePool& pool);

}  // namespace sluice::ops::cpu
