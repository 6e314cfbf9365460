#include "ops/cuda/rms_norm.h"
#include "ops/cuda/row_math.cuh"

namespace sluice::ops::cuda {
namespace {

// One block for each row, which it keeps in registers: tile by tile eight channels of each thread.
template <int kTiles>
__global__ void __launch_bounds__(kRowThreads) RmsNormKernel(const RmsNorm work) {
  __shared__ float warp_sums[kRowThreads / 32];
  const int64_t row = blockIdx.x;
  const int64_t first = FirstColumn();
  auto* x = static_cast<__nv_bfloat16*>(work.x) + row * work.x_stride;
  const auto* delta = static_cast<const __nv_bfloat16*>(work.delta) + row * work.delta_stride;
  Eight held[kTiles];
  float squares = 0.0F;
  for (int tile = 0; tile < kTiles; ++tile) {
    const int64_t column = first + tile * kTile;
    Eight& values = held[tile];
    values = {};
    if (column >= work.width) continue;
    values = Load8(x + column);
    if (work.delta != nullptr) {
      AddTo(values, Load8(delta + column));
      RoundToBF16(values);
      Store8(values, x + column);
    }
    for (const float value : values.at) squares = __fmaf_rn(value, value, squares);
  }
  const float mean = SumOfBlock(squares, warp_sums) / static_cast<float>(work.width);
  const float factor = 1.0F / sqrtf(mean + work.eps);
  for (int tile = 0; tile < kTiles; ++tile) {
    const int64_t column = first + tile * kTile;
    Eight& values = held[tile];
    if (column < work.width) {
      const Eight weight = Load8(work.weight + column);
      for (int i = 0; i < kEight; ++i) values.at[i] = weight.at[i] * (values.at[i] * factor);
      RoundToBF16(values);
      if (work.y != nullptr) {
        Store8(values, static_cast<__nv_bfloat16*>(work.y) + row * work.y_stride + column);
      }
    }
    if (work.quantized.codes != nullptr) StoreQuantized(values, work.quantized, row, column, work.width);
  }
}

}  // namespace

cudaError_t Enqueue(const RmsNorm& work, cudaStream_t stream) {
  if (work.width % kEight != 0 || work.width > kWidestNorm || !Aligned(work.x, work.x_stride, 2) ||
      !Aligned(work.delta, work.delta_stride, 2) || !Aligned(work.y, work.y_stride, 2) ||
      !Aligned(work.weight, 0, 4) || !Aligned(work.quantized)) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.width == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>(work.rows);
  static_assert(kWidestNorm == 4 * kTile);
  if (work.width <= kTile) {
    RmsNormKernel<1><<<blocks, kRowThreads, 0, stream>>>(work);
  } else {
    RmsNormKernel<4><<<blocks, kRowThreads, 0, stream>>>(work);
  }
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
