#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Rows as FP8 and back: Ops::QuantizeRows, Ops::DequantizeRows, and what Ops::Linear makes of its input. Per
// row and 128 channels scale = PowerOfTwoScale(largest magnitude), codes = e4m3(x / scale).
namespace sluice::ops::cuda {

// Where the codes of rows and their scales lie, in device memory. A wide form for gemm.h: codes [T, K] with a
// stride that is a multiple of 16, scales [T, ceil(K / 128)]. The wire form has both in one row (OnTheWire).
struct QuantizedRows {
  void* codes = nullptr;     // e4m3, aligned to 8 bytes
  int64_t codes_stride = 0;  // bytes from row to row, a multiple of 8
  float* scales = nullptr;
  int64_t scales_stride = 0;  // floats from row to row
};

// QuantizedRowBytes(width) each, `stride` bytes from row to row, a multiple of 8: codes, then scales.
inline QuantizedRows OnTheWire(void* rows, int64_t stride, int64_t width) {
  return {rows, stride, reinterpret_cast<float*>(static_cast<char*>(rows) + width), stride / 4};
}

// Pointers are to device memory; data and strides in bytes are multiples of 16, the width is one of 8.
struct QuantizeRows {
  int64_t rows = 0;         // T
  int64_t width = 0;        // channels
  const void* x = nullptr;  // [T, width] bf16
  int64_t x_stride = 0;     // elements from row to row
  QuantizedRows out;
};

// y = code * scale, exact in bf16.
struct DequantizeRows {
  int64_t rows = 0;
  int64_t width = 0;
  QuantizedRows in;   // only read
  void* y = nullptr;  // [T, width] bf16
  int64_t y_stride = 0;
};

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const QuantizeRows& work, cudaStream_t stream);
cudaError_t Enqueue(const DequantizeRows& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
