#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/sparse_attention.h"

// Between sparse_attention.cc, which checks and plans, and the kernels.
namespace sluice::ops::cuda {

struct LaunchedAttention {
  SparseAttention work;
  int32_t head_groups = 0;      // of kTileHeads, the last perhaps smaller
  float exponent_scale = 0.0F;  // scale * log2 e
  int32_t* tiles = nullptr;
  // Few rows only:
  int32_t stretch_blocks = 0;    // blocks of keys whose scores one block of threads makes
  int32_t score_groups = 0;      // head groups of which it makes them: all or 1
  int32_t parts = 0;             // blocks of threads that share the channels of 64 heads: 2, 4 or kMostParts
  uint8_t* workspace = nullptr;  // kItemBytes for each row and head group
};

// Of 64 heads: scores of a block of keys in fp32, and in their place weights; with the largest of each block.
inline constexpr int64_t kScoredKeys = 64;
inline constexpr int64_t kScoredBlockBytes = kTileHeads * kScoredKeys * 4;
inline constexpr int64_t kItemBytes = kMostAttended / kScoredKeys * (kScoredBlockBytes + kTileHeads * 4);

inline constexpr int32_t kMostParts = 8;
// Whether each of so many blocks of threads makes all weights of its 64 heads for itself. Where it would be
// more work than that of the values, the launch of the scores makes them.
constexpr bool ValuesMakeWeights(int32_t parts) { return parts < kMostParts; }

// One block on each SM, which takes whole rows.
cudaError_t Launch(const LaunchedAttention& launched, int sms, cudaStream_t stream);

// Few rows, one after the other.
cudaError_t LaunchScores(const LaunchedAttention& launched, cudaStream_t stream);
cudaError_t LaunchValues(const LaunchedAttention& launched, cudaStream_t stream);

// A launch whose blocks may start while those of the launch before it on the stream still run or end: the
// kernel waits for what that one wrote (WaitForEarlierGrids).
inline cudaError_t LaunchBehind(void (*kernel)(LaunchedAttention), const LaunchedAttention& launched,
                                unsigned blocks, unsigned threads, size_t shared_bytes, cudaStream_t stream) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = 1;
  void* arguments[] = {const_cast<LaunchedAttention*>(&launched)};
  return cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), arguments);
}

}  // namespace sluice::ops::cuda
