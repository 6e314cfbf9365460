#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>
#include <vector>

#include "ops/cuda/index_scores_kernel.h"
#include "ops/ops.h"

// The lightning indexer's scores on the tensor cores:
//
//   score(t, s) = scale_s * sum_h gates[t, h] * max(0, queries[t, h] . key_s)
//
// One answer. The dot products of a row and a key are the same four wgmmas whichever rows and keys share the
// instruction; the sum over heads is one fixed tree (columns of a thread ascending, then two exchanges inside
// a quad), of (gates / 2) (d + |d|) with d the dot product, which is gates max(0, d) to the bit unless a gate
// is below 2^-125; -0 becomes +0. Which tile, page or SM it falls to changes no bit.
namespace sluice::ops::cuda {

// Consecutive rows of a sequence, 256 / heads at a time. heads is 64 or 32. Pure.
std::vector<QueryGroup> GroupQueries(std::span<const RowPlace> places, int64_t heads);

// Enqueues it with one block on each of `sms` SMs, which take their tiles from the counter (gemm.h): it is 0
// before, and 0 again afterwards. What is enqueued depends on the groups, not on positions: those are read on
// the device.
cudaError_t Enqueue(const IndexScores& work, TileCounter counter, int sms, cudaStream_t stream);

}  // namespace sluice::ops::cuda
