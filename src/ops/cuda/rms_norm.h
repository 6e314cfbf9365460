#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/quantize_rows.h"

// Ops::RmsNorm and Ops::AddRmsNorm in one launch:
//
//   x = bf16(x + delta)                                      if there is a delta
//   y = bf16(weight * (x * rsqrt(mean(x^2) + eps)))
//   codes, scales = y as QuantizeRows has it                 if they are wanted
//
// The bits are those of Add, RmsNorm and a quantisation one after the other. The sum of squares runs over a
// thread's channels and then in one fixed tree: a row's bits depend on that row alone.
namespace sluice::ops::cuda {

// Pointers are to device memory; data and strides in bytes are multiples of 16.
struct RmsNorm {
  int64_t rows = 0;   // T
  int64_t width = 0;  // a multiple of 8, at most kWidestNorm
  void* x = nullptr;  // [T, width] bf16; only read without a delta
  int64_t x_stride = 0;
  const void* delta = nullptr;  // [T, width] bf16 or null
  int64_t delta_stride = 0;
  const float* weight = nullptr;  // [width]
  float eps = 0.0F;
  void* y = nullptr;  // [T, width] bf16, or null where only the codes are wanted; may be x without a delta
  int64_t y_stride = 0;
  QuantizedRows quantized;  // codes null: not wanted
};

inline constexpr int64_t kWidestNorm = 8192;

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const RmsNorm& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
