#include <cmath>

#include "ops/cuda/attention_math.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/sparse_attention_few.cuh"
#include "ops/cuda/sparse_attention_launch.h"

// Few rows, second launch where there are three: weights in the place of the scores. A warpgroup has a block
// of keys and 64 heads. They are read by the copy engine of another launch, which orders them behind this one
// (BringWeights).
namespace sluice::ops::cuda {
namespace {

constexpr int kGroups = 2;
constexpr int kThreads = 128 * kGroups;

__device__ void SyncGroup(int group) { asm volatile("bar.sync %0, 128;" ::"r"(1 + group) : "memory"); }

// What the weights of `block` and of the one before it are relative to, of one head.
struct References {
  float before;
  float own;
};
__device__ References FollowReference(const LaunchedAttention& launched, int item, int block, int head) {
  float largest[kMostBlocks];  // read at once: loads under a condition would follow one another
  const float* from = LargestInMemory(launched, item, 0) + head;
#pragma unroll
  for (int i = 0; i < kMostBlocks; ++i) largest[i] = __ldcg(from + min(i, block) * kTileHeads);
  References at{-INFINITY, -INFINITY};
#pragma unroll
  for (int i = 0; i < kMostBlocks; ++i) {
    if (i <= block) at = {at.own, NextReference(at.own, largest[i])};
  }
  return at;
}

__global__ void __launch_bounds__(kThreads) WeighKernel(const LaunchedAttention launched) {
  __shared__ alignas(16) uint8_t panels[kGroups][kPanelBytes];
  __shared__ References references[kGroups][kTileHeads];
  LetDependentsStart();
  const SparseAttention& work = launched.work;
  const auto group = static_cast<int>(threadIdx.x / 128);
  const auto thread = static_cast<int>(threadIdx.x % 128);
  const int number = static_cast<int>(blockIdx.x) * kGroups + group;
  const int item = number / kMostBlocks;
  const int block = number % kMostBlocks;
  const int32_t first_position = FirstPosition(work, item / launched.head_groups, block, 1);
  const bool present = __shfl_sync(~0U, first_position, 0) >= 0;
  WaitForEarlierGrids();
  if (!present) return;
  uint8_t* memory = BlockInMemory(launched, item, block);
  float4 scores[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) scores[j] = __ldcg(reinterpret_cast<const float4*>(memory) + 128 * j + thread);
  if (thread < kTileHeads) references[group][thread] = FollowReference(launched, item, block, thread);
  SyncGroup(group);
  auto& weighed = *reinterpret_cast<WeighedBlock*>(memory);
  uint32_t weights[16];
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    weights[2 * j] =
        Weights(scores[j].x, scores[j].y, launched.exponent_scale, references[group][HeadOf(0)].own);
    weights[2 * j + 1] =
        Weights(scores[j].z, scores[j].w, launched.exponent_scale, references[group][HeadOf(1)].own);
  }
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    *reinterpret_cast<uint32_t*>(panels[group] + PlaceInPanel(HeadOf(j % 2), j / 2) + 4 * (Lane() % 4)) =
        weights[j];
  }
  SyncGroup(group);  // all have read the scores
#pragma unroll
  for (int i = 0; i < kPanelBytes / 16 / 128; ++i) {
    reinterpret_cast<uint4*>(weighed.weights)[128 * i + thread] =
        reinterpret_cast<const uint4*>(panels[group])[128 * i + thread];
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sum = SumOfBlock(weights, i);
    if (Lane() % 4 == 0) {
      const References at = references[group][HeadOf(i)];
      weighed.sums[HeadOf(i)] = sum;
      weighed.rescale[HeadOf(i)] = Exp2(at.before - at.own);
    }
  }
}

}  // namespace

cudaError_t LaunchWeights(const LaunchedAttention& launched, cudaStream_t stream) {
  const auto items = static_cast<unsigned>(launched.work.rows) * launched.head_groups;
  return LaunchBehind(WeighKernel, launched, items * kMostBlocks / kGroups, kThreads, 0, stream);
}

}  // namespace sluice::ops::cuda
