#pragma once

#include <memory>

#include "base/compute_pool.h"
#include "ops/ops.h"

namespace sluice::ops {

// The back end for CPU ranks: SIMD kernels chosen at run time, work spread over `pool` (which outlives the
// object and may be shared by several ranks' objects). Every result has the same bits on every instruction
// set and for every number of threads.
//
// Beyond ops.h: sums of RmsNorm and LayerNorm run in 16 lanes added in one tree; a rotation is a product and
// one FMA per output; index_head_dim must be a power of two in kFp8; a NaN activation stays NaN through e4m3.
std::unique_ptr<Ops> MakeCpuOps(Numerics numerics, ComputePool& pool);

}  // namespace sluice::ops
