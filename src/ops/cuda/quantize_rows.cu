#include <cuda_fp8.h>

#include "ops/cuda/quantize_rows.h"
#include "ops/cuda/row_math.cuh"

namespace sluice::ops::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads) QuantizeKernel(const QuantizeRows work) {
  const int64_t row = blockIdx.x;
  const int64_t column = FirstColumn();
  const auto* x = static_cast<const __nv_bfloat16*>(work.x) + row * work.x_stride;
  Eight values = {};
  if (column < work.width) values = Load8(x + column);
  StoreQuantized(values, work.out, row, column, work.width);
}

__device__ float ValueOf(uint32_t code) {
  return __half2float(
      __half(__nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(code & 0xffU), __NV_E4M3)));
}

__global__ void __launch_bounds__(kRowThreads) DequantizeKernel(const DequantizeRows work) {
  const int64_t row = blockIdx.x;
  const int64_t column = FirstColumn();
  if (column >= work.width) return;
  const auto* codes = static_cast<const uint8_t*>(work.in.codes) + row * work.in.codes_stride + column;
  const float scale = work.in.scales[row * work.in.scales_stride + column / kQuantBlock];
  const uint2 eight = *reinterpret_cast<const uint2*>(codes);
  Eight values;
  for (int i = 0; i < kEight; ++i) {
    values.at[i] = ValueOf((i < 4 ? eight.x : eight.y) >> 8 * (i % 4)) * scale;
  }
  Store8(values, static_cast<__nv_bfloat16*>(work.y) + row * work.y_stride + column);
}

}  // namespace

cudaError_t Enqueue(const QuantizeRows& work, cudaStream_t stream) {
  if (work.width % kEight != 0 || !Aligned(work.x, work.x_stride, 2) || !Aligned(work.out)) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.width == 0) return cudaSuccess;
  QuantizeKernel<<<RowsByTiles(work.rows, work.width), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

cudaError_t Enqueue(const DequantizeRows& work, cudaStream_t stream) {
  if (work.width % kEight != 0 || !Aligned(work.y, work.y_stride, 2) || !Aligned(work.in)) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.width == 0) return cudaSuccess;
  DequantizeKernel<<<RowsByTiles(work.rows, work.width), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
