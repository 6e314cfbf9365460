#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/expert_terms.h"
#include "tensor/dtype.h"

// Sums of expert outputs, and of partial sums of ranks: Ops::SumTerms and Ops::JoinNodes (inner
// nodes of model/expert_tree.h).
namespace sluice::ops::cuda {

// out[i] = sum of terms [offsets[i], offsets[i + 1]) in order: fp32, the first product plain, then FMA;
// rounded once. Pointers are to device memory; data and strides in bytes are multiples of 16, the width is
// one of 8.
struct SumTerms {
  int64_t rows = 0;  // of out
  int64_t width = 0;
  const void* y = nullptr;
  DType y_type = DType::kBF16;  // or F32
  int64_t y_stride = 0;         // elements from row to row
  const ExpertTerm* terms = nullptr;
  const int64_t* offsets = nullptr;  // [rows + 1]
  void* out = nullptr;
  DType out_type = DType::kBF16;  // or F32
  int64_t out_stride = 0;
};

// nodes[into] = bf16(nodes[left] + nodes[right]), join after join in the order given.
//
// Joins of one range are walked one after the other, some 0.4 us each (two dependent loads), and all ranges
// at once: 28,672 joins of 4,096 tokens took 11 ms on an H200 as one range, and 0.23 ms cut into the ranges
// of the tokens. Cutting is the caller's: IndependentRanges (join_ranges.h) does it.
struct JoinNodes {
  int64_t width = 0;
  const NodeJoin* joins = nullptr;  // in device memory
  int64_t join_count = 0;
  // Joins [ranges[i], ranges[i + 1]) touch no node that a join of another range touches: [range_count + 1],
  // in device memory; null: all joins are one range.
  const int64_t* ranges = nullptr;
  int64_t range_count = 0;
  void* nodes = nullptr;  // [*, width] bf16
  int64_t nodes_stride = 0;
};

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const SumTerms& work, cudaStream_t stream);
cudaError_t Enqueue(const JoinNodes& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
