#include "ops/cuda/row_math.cuh"
#include "ops/cuda/swiglu.h"

namespace sluice::ops::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads) SwiGluKernel(const SwiGlu work) {
  const int64_t row = blockIdx.x;
  const int64_t column = FirstColumn();
  const auto* gate = static_cast<const __nv_bfloat16*>(work.gate) + row * work.gate_stride;
  const auto* up = static_cast<const __nv_bfloat16*>(work.up) + row * work.up_stride;
  Eight values = {};
  if (column < work.width) {
    values = Load8(gate + column);
    const Eight factors = Load8(up + column);
    for (int i = 0; i < kEight; ++i) {
      const float g = values.at[i];
      values.at[i] = g * Sigmoid(g) * factors.at[i];
    }
    RoundToBF16(values);
    if (work.y != nullptr) {
      Store8(values, static_cast<__nv_bfloat16*>(work.y) + row * work.y_stride + column);
    }
  }
  if (work.quantized.codes != nullptr) StoreQuantized(values, work.quantized, row, column, work.width);
}

}  // namespace

cudaError_t Enqueue(const SwiGlu& work, cudaStream_t stream) {
  if (work.width % kEight != 0 || !Aligned(work.gate, work.gate_stride, 2) ||
      !Aligned(work.up, work.up_stride, 2) || !Aligned(work.y, work.y_stride, 2) ||
      !Aligned(work.quantized)) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.width == 0) return cudaSuccess;
  SwiGluKernel<<<RowsByTiles(work.rows, work.width), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
