#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "tensor/random_matrix.h"

// Weights of a random model made in device memory, bit for bit as FillRandom (tensor/random_matrix.h) makes
// them on the host.
namespace sluice::ops::cuda {

// All pointers are to device memory.
struct RandomFill {
  RandomMatrix matrix;
  void* data = nullptr;       // [matrix.rows, matrix.cols] of matrix.dtype: F32, BF16 or F8_E4M3
  int64_t stride = 0;         // elements from row to row
  float* scales = nullptr;    // F8_E4M3 only: [ceil(rows / 128), ceil(cols / 128)]
  int64_t scales_stride = 0;  // elements from row to row
};

// cudaErrorInvalidValue for another dtype, for an F8_E4M3 part that begins inside a scale block, and for more
// than 65,535 x 128 rows.
cudaError_t Enqueue(const RandomFill& fill, cudaStream_t stream);

}  // namespace sluice::ops::cuda
