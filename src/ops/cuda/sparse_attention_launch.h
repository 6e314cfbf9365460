#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/sparse_attention.h"

// Between sparse_attention.cc, which checks and plans, and the kernel in sparse_attention.cu.
namespace sluice::ops::cuda {

inline constexpr int64_t kPartition = 512;      // ordinals of a selection that share one partial softmax
inline constexpr int64_t kTileHeads = 64;       // of one row in one tile
inline constexpr int64_t kAttendThreads = 256;  // that hold a tile's softmax
// A partial softmax as those threads hold it: o, 2 maxima and 2 sums each.
inline constexpr int64_t kPartialBytes = kAttendThreads * (kTileHeads * kLatent / kAttendThreads + 4) * 4;

struct LaunchedAttention {
  SparseAttention work;
  int32_t head_groups = 0;  // of kTileHeads, the last perhaps smaller
  int32_t partitions = 0;   // that a row can have
  // true: a tile is one partition of a row and a head group; whoever finishes the last one merges them.
  // false: a tile is all of them, one after the other.
  bool split = false;
  float exponent_scale = 0.0F;  // scale * log2 e
  uint8_t* partials = nullptr;  // split: of each tile; otherwise of each block
  int32_t* arrivals = nullptr;  // split: partitions that are done, of each row and head group; zeroed
  int32_t* tiles = nullptr;
};

cudaError_t Launch(const LaunchedAttention& launched, int sms, cudaStream_t stream);

}  // namespace sluice::ops::cuda
