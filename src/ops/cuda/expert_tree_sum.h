#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/expert_terms.h"

// Ops::SumExperts and Ops::JoinSubtrees: the canonical tree of a row's experts (model/expert_tree.h), made
// from their outputs or from subtrees that other lanes made. A leaf is an fp32 chain in ascending order of
// the experts, first product plain; every node is rounded to bf16.
namespace sluice::ops::cuda {

inline constexpr int32_t kMostChosen = 32;  // experts of a row, as in route.h

// Pointers are to device memory; data and strides in bytes are multiples of 16, the width is one of 8.
struct SumExperts {
  int64_t rows = 0;   // T
  int32_t top_k = 0;  // at most kMostChosen
  int64_t width = 0;
  const void* y = nullptr;  // [pairs, width] bf16
  int64_t y_stride = 0;     // elements from row to row
  const int32_t* pairs = nullptr;
  int64_t pairs_stride = 0;
  const int32_t* ids = nullptr;  // [T, top_k], ascending in a row
  int64_t ids_stride = 0;
  const float* weights = nullptr;  // [T, top_k]
  int64_t weights_stride = 0;
  ExpertLeaves leaves;
  int32_t subtree_count = 0;
  Subtree subtrees[kMostLeaves];
  void* nodes = nullptr;  // [T * subtree_count, width] bf16
  int64_t nodes_stride = 0;
};

struct JoinSubtrees {
  int64_t rows = 0;  // T
  int32_t top_k = 0;
  int64_t width = 0;
  const void* nodes = nullptr;  // [*, width] bf16
  int64_t nodes_stride = 0;
  const int32_t* ids = nullptr;
  int64_t ids_stride = 0;
  ExpertLeaves leaves;
  // The subtree that begins with each leaf; one of no leaves: none does.
  SubtreeRows subtrees[kMostLeaves];
  void* out = nullptr;  // [T, width] bf16
  int64_t out_stride = 0;
};

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const SumExperts& work, cudaStream_t stream);
cudaError_t Enqueue(const JoinSubtrees& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
