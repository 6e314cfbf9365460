#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/sparse_attention.h"

// Between sparse_attention.cc, which checks and plans, and the kernel in sparse_attention.cu.
namespace sluice::ops::cuda {

inline constexpr int64_t kTileHeads = 64;  // of one row in one tile

struct LaunchedAttention {
  SparseAttention work;
  int32_t head_groups = 0;      // of kTileHeads, the last perhaps smaller
  float exponent_scale = 0.0F;  // scale * log2 e
  int32_t* tiles = nullptr;
  int32_t parts = 1;           // blocks that share 64 heads of a row: 1, 4 or 8
  uint8_t* weights = nullptr;  // with parts: bf16 of each row and head group
};

inline constexpr int64_t kWeightsBytes = kMostAttended * kTileHeads * 2;

// One block on each SM, which takes whole rows.
cudaError_t Launch(const LaunchedAttention& launched, int sms, cudaStream_t stream);
// `parts` blocks for each row and head group.
cudaError_t LaunchFew(const LaunchedAttention& launched, cudaStream_t stream);

}  // namespace sluice::ops::cuda
