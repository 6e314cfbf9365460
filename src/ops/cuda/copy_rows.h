#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Rows gathered by number, bytes as they are: Ops::CopyRows, Ops::TakeRows and Ops::Embed.
namespace sluice::ops::cuda {

// y[i] = x[source[i]]. Any dtype, any alignment; fastest where data, strides and rows are multiples of 16
// bytes. y does not overlap x.
struct CopyRows {
  int64_t rows = 0;       // of y
  int64_t row_bytes = 0;  // that are copied of each
  const void* x = nullptr;
  int64_t x_stride = 0;             // bytes from row to row
  const int64_t* source = nullptr;  // [rows], in device memory
  void* y = nullptr;
  int64_t y_stride = 0;  // bytes from row to row
};

// The same by a list that a kernel may have made; below 0: the row of y is left as it is.
struct TakeRows {
  int64_t rows = 0;       // of y
  int64_t row_bytes = 0;  // that are copied of each
  const void* x = nullptr;
  int64_t x_stride = 0;             // bytes from row to row
  const int32_t* source = nullptr;  // [rows], in device memory
  void* y = nullptr;
  int64_t y_stride = 0;  // bytes from row to row
};

// y[t] = table[ids[t] - first_id].
struct Embed {
  int64_t rows = 0;             // T
  int64_t width = 0;            // d
  const void* table = nullptr;  // [n, d] bf16
  int64_t table_stride = 0;     // elements from row to row
  int32_t first_id = 0;
  const int32_t* ids = nullptr;  // [T], in device memory
  void* y = nullptr;             // [T, d] bf16
  int64_t y_stride = 0;
};

cudaError_t Enqueue(const CopyRows& work, cudaStream_t stream);
cudaError_t Enqueue(const TakeRows& work, cudaStream_t stream);
cudaError_t Enqueue(const Embed& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
