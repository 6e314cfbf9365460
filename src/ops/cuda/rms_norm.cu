#include "ops/cuda/rms_norm.h"
#include "ops/cuda/row_math.cuh"

namespace sluice::ops::cuda {
namespace {

// One block for each row, which it keeps in registers: tile by tile eight channels of each thread. kAhead:
// everything is loaded before anything is stored, for the compiler moves no load over a store, and few rows
// wait for memory once and not tile after tile. Many rows hide that, and registers are dear.
template <int kTiles, bool kAhead>
__global__ void __launch_bounds__(kRowThreads) RmsNormKernel(const RmsNorm work) {
  __shared__ float warp_sums[kRowThreads / 32];
  const int64_t row = blockIdx.x;
  const int64_t first = FirstColumn();
  auto* x = static_cast<__nv_bfloat16*>(work.x) + row * work.x_stride;
  const auto* delta = static_cast<const __nv_bfloat16*>(work.delta) + row * work.delta_stride;
  Eight held[kTiles];
  Eight deltas[kTiles];
  Eight weights[kTiles];
  const auto load = [&](int tile, int64_t column) {
    held[tile] = Load8(x + column);
    if (work.delta != nullptr) deltas[tile] = Load8(delta + column);
  };
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int64_t column = first + tile * kTile;
    held[tile] = {};
    if (!kAhead || column >= work.width) continue;
    load(tile, column);
    weights[tile] = Load8(work.weight + column);
  }
  float squares = 0.0F;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int64_t column = first + tile * kTile;
    Eight& values = held[tile];
    if (column >= work.width) continue;
    if (!kAhead) load(tile, column);
    if (work.delta != nullptr) {
      AddTo(values, deltas[tile]);
      RoundToBF16(values);
      Store8(values, x + column);
    }
    for (const float value : values.at) squares = __fmaf_rn(value, value, squares);
  }
  const float mean = SumOfBlock(squares, warp_sums) / static_cast<float>(work.width);
  const float factor = 1.0F / sqrtf(mean + work.eps);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int64_t column = first + tile * kTile;
    Eight& values = held[tile];
    if (column < work.width) {
      if (!kAhead) weights[tile] = Load8(work.weight + column);
      for (int i = 0; i < kEight; ++i) values.at[i] = weights[tile].at[i] * (values.at[i] * factor);
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
  constexpr int64_t kFewRows = 512;
  if (work.width <= kTile) {
    RmsNormKernel<1, true><<<blocks, kRowThreads, 0, stream>>>(work);
  } else if (work.rows <= kFewRows) {
    RmsNormKernel<4, true><<<blocks, kRowThreads, 0, stream>>>(work);
  } else {
    RmsNormKernel<4, false><<<blocks, kRowThreads, 0, stream>>>(work);
  }
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
