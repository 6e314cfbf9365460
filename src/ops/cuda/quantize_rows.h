#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Rows as FP8 linears read them, made of rows of bf16: per row and 128 channels
// scale = PowerOfTwoScale(largest magnitude), codes = e4m3(x / scale).
namespace sluice::ops::cuda {

// Where the codes of rows and their scales lie, in device memory: codes [T, K], scales [T, ceil(K / 128)].
// gemm.h wants codes whose stride is a multiple of 16.
struct QuantizedRows {
  void* codes = nullptr;     // e4m3, aligned to 8 bytes
  int64_t codes_stride = 0;  // bytes from row to row, a multiple of 8
  float* scales = nullptr;
  int64_t scales_stride = 0;  // floats from row to row
};

// Both in one row, as the quantised form of an Activation has them: codes, then scales; `stride` bytes from
// row to row, a multiple of 8.
inline QuantizedRows InOneRow(void* rows, int64_t stride, int64_t width) {
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

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const QuantizeRows& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
