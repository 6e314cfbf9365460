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

}  // namespace

cudaError_t Enqueue(const QuantizeRows& work, cudaStream_t stream) {
  if (work.width % kEight != 0 || !Aligned(work.x, work.x_stride, 2) || !Aligned(work.out)) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.width == 0) return cudaSuccess;
  QuantizeKernel<<<RowsByTiles(work.rows, work.width), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
