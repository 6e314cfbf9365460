#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/quantize_rows.h"

// Ops::SwiGlu: y = bf16(silu(gate) * up), and y as the next linear quantises it, in the same launch. Equal
// bits to SwiGlu and QuantizeRows one after the other.
namespace sluice::ops::cuda {

// Pointers are to device memory; data and strides in bytes are multiples of 16, the width is one of 8.
struct SwiGlu {
  int64_t rows = 0;            // T
  int64_t width = 0;           // n
  const void* gate = nullptr;  // [T, n] bf16
  int64_t gate_stride = 0;
  const void* up = nullptr;  // [T, n] bf16
  int64_t up_stride = 0;
  void* y = nullptr;  // [T, n] bf16, or null where only the codes are wanted; may be gate or up
  int64_t y_stride = 0;
  QuantizedRows quantized;  // codes null: not wanted
};

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const SwiGlu& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
