#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// The exact selection of the lightning indexer (Ops::SelectKeys): of each row's scores the `top_k` largest,
// ties to the lowest position, positions ascending.
namespace sluice::ops::cuda {

// All pointers are to device memory.
struct TopK {
  int64_t rows = 0;               // T
  const float* scores = nullptr;  // [T, scores_stride]: of row t the entries 0..positions[t]
  int64_t scores_stride = 0;
  const int32_t* positions = nullptr;  // [T]
  int32_t top_k = 0;                   // 1..kMostSelected
  int32_t* selection = nullptr;        // [T, top_k]: positions ascending, then -1
  // Set to (row, position) of a score that is not a number, if there is one; otherwise left as it is. A row
  // that sees no more than top_k keys is not looked at.
  int32_t* not_a_number = nullptr;
};

inline constexpr int32_t kMostSelected = 2048;
inline constexpr int64_t kMostScores = 1 << 19;  // scores_stride: a block has two bits for each

// cudaErrorInvalidValue for sizes beyond these. One block for each row; a row's selection depends on its
// scores alone.
cudaError_t Enqueue(const TopK& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
