#pragma once

#include <cstdint>

#include "ops/cuda/latent_gather.cuh"
#include "ops/cuda/sparse_attention_launch.h"

// What the launches for few rows hand on in memory. An item is 64 heads of a row.
namespace sluice::ops::cuda {

constexpr int kMostBlocks = static_cast<int>(kMostAttended) / kBlockKeys;

// In the place of a block's scores, once they are weights.
struct WeighedBlock {
  uint8_t weights[kPanelBytes];  // [head, key] bf16, a panel
  float sums[kTileHeads];
  float rescale[kTileHeads];  // what the blocks before are multiplied with
};
static_assert(sizeof(WeighedBlock) <= kScoredBlockBytes);

__device__ inline uint8_t* BlockInMemory(const LaunchedAttention& launched, int item, int block) {
  return launched.workspace + item * kItemBytes + block * kScoredBlockBytes;
}
// A thread's scores of a block: 8 times four of them, each 128 from the one before.
__device__ inline float4* ScoresInMemory(const LaunchedAttention& launched, int item, int block) {
  return reinterpret_cast<float4*>(BlockInMemory(launched, item, block)) + threadIdx.x % 128;
}
__device__ inline void StoreScores(const float (&s)[32], float4* to) {
#pragma unroll
  for (int j = 0; j < 8; ++j) to[128 * j] = {s[4 * j], s[4 * j + 1], s[4 * j + 2], s[4 * j + 3]};
}
// Four of them, only where it is written: a load that the compiler moves to its use is a wait.
__device__ inline float4 LoadScores(const float4* from) {
  float4 scores;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(scores.x), "=f"(scores.y), "=f"(scores.z), "=f"(scores.w)
               : "l"(from)
               : "memory");
  return scores;
}
// Of a block's heads: the largest exponent.
__device__ inline float* LargestInMemory(const LaunchedAttention& launched, int item, int block) {
  return reinterpret_cast<float*>(launched.workspace + item * kItemBytes + kMostBlocks * kScoredBlockBytes) +
         block * kTileHeads;
}

// The same, published to those who make weights of a row's later blocks in the same launch.
__device__ inline uint32_t* PublishedInMemory(const LaunchedAttention& launched, int item, int block) {
  return launched.work.published + (item * kMostBlocks + block) * kTileHeads;
}

// Of up to 32 blocks from `first` on a lane has the first position of each: below 0 where there is none.
__device__ inline int32_t FirstPosition(const SparseAttention& work, int row, int first, int blocks) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int ordinal = (first + lane) * kBlockKeys;
  return lane < blocks && ordinal < work.top_k ? __ldg(work.selection + row * work.selection_stride + ordinal)
                                               : -1;
}
// Blocks with keys are in front of those without.
__device__ inline int BlocksWithKeys(int32_t first_position) {
  return __popc(__ballot_sync(~0U, first_position >= 0));
}

}  // namespace sluice::ops::cuda
