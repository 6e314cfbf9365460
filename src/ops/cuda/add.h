#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Ops::Add: y = bf16(y + x).
namespace sluice::ops::cuda {

// Pointers are to device memory; data and strides in bytes are multiples of 16, the width is one of 8.
struct Add {
  int64_t rows = 0;         // T
  int64_t width = 0;        // d
  const void* x = nullptr;  // [T, d] bf16
  int64_t x_stride = 0;
  void* y = nullptr;  // [T, d] bf16
  int64_t y_stride = 0;
};

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const Add& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
