#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Ops::Route: the experts of each row, ascending, and their weights; fp32, ties to the lowest id, a NaN ranks
// last.
namespace sluice::ops::cuda {

// All pointers are to device memory.
struct Route {
  int64_t rows = 0;        // T
  int32_t experts = 0;     // at most kMostExperts
  int32_t groups = 1;      // n_group: divides experts, at most 32
  int32_t top_groups = 1;  // topk_group
  int32_t top_k = 0;       // at most 32, and no more than top_groups hold
  bool normalize = true;
  float scale = 1.0F;
  const float* logits = nullptr;  // [T, experts]
  int64_t logits_stride = 0;
  const float* bias = nullptr;  // [experts]
  int32_t* ids = nullptr;       // [T, top_k]
  int64_t ids_stride = 0;
  float* weights = nullptr;  // [T, top_k]
  int64_t weights_stride = 0;
};

inline constexpr int32_t kMostExperts = 512;

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const Route& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
