#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/gemm.h"

// Ops::PlanExperts: which pairs of a row and an expert there are, grouped by expert, made where the choices
// are.
namespace sluice::ops::cuda {

// All pointers are to device memory.
struct PlanExperts {
  int64_t rows = 0;  // T
  int32_t top_k = 0;
  const int32_t* ids = nullptr;  // [T, top_k], a row chooses an expert once
  int64_t ids_stride = 0;        // elements from row to row
  int32_t first_expert = 0;      // of `experts` that pairs are made for
  int32_t experts = 0;
  int32_t* pair_rows = nullptr;  // [pairs]: the row of each pair, then -1
  int64_t pairs = 0;             // that there is room for: at least as many as there are
  RowGroup* groups = nullptr;    // [experts]
  int32_t* pair_of = nullptr;    // [T, top_k]: the pair of a choice; -1: none
  int64_t pair_of_stride = 0;
};

// One block for each expert; each looks at all choices.
cudaError_t Enqueue(const PlanExperts& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
