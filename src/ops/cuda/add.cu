#include "ops/cuda/add.h"
#include "ops/cuda/row_math.cuh"

namespace sluice::ops::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads) AddKernel(const Add work) {
  const int64_t column = FirstColumn();
  if (column >= work.width) return;
  const int64_t row = blockIdx.x;
  auto* y = static_cast<__nv_bfloat16*>(work.y) + row * work.y_stride + column;
  const auto* x = static_cast<const __nv_bfloat16*>(work.x) + row * work.x_stride + column;
  Eight sum = Load8(y);
  AddTo(sum, Load8(x));
  Store8(sum, y);
}

}  // namespace

cudaError_t Enqueue(const Add& work, cudaStream_t stream) {
  if (work.width % kEight != 0 || !Aligned(work.x, work.x_stride, 2) || !Aligned(work.y, work.y_stride, 2)) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.width == 0) return cudaSuccess;
  AddKernel<<<RowsByTiles(work.rows, work.width), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
