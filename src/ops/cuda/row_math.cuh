#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cache_format.h"
#include "ops/cuda/quantize_rows.h"
#include "tensor/dtype.h"

// Steps that several row kernels share. Their common layout: a thread holds eight consecutive channels (16
// bytes of bf16), sixteen neighbouring threads a quantisation block of 128, or one head of the indexer.
namespace sluice::ops::cuda {

inline constexpr int kEight = 8;                            // channels of a thread
inline constexpr int kBlockThreads = kQuantBlock / kEight;  // threads that share a scale
inline constexpr int kRowThreads = 256;                     // threads of a block that works on one row
inline constexpr int kTile = kRowThreads * kEight;  // channels of one row that such a block takes at a time

// Whether 16-byte accesses are legal: rows of bf16 (or bytes, with `element` 1) at `data`.
inline bool Aligned(const void* data, int64_t stride, int64_t element) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride * element % 16 == 0;
}

// One block for each row and tile of kTile channels. Rows are x, which has no limit.
inline dim3 RowsByTiles(int64_t rows, int64_t width) {
  return {static_cast<unsigned>(rows), static_cast<unsigned>((width + kTile - 1) / kTile)};
}

// The first of the eight channels of this thread of such a grid.
__device__ inline int64_t FirstColumn() {
  return static_cast<int64_t>(blockIdx.y) * kTile + kEight * threadIdx.x;
}

// ---- eight channels ----

struct Eight {
  float at[kEight];
};

__device__ inline Eight Load8(const __nv_bfloat16* from) {
  const uint4 raw = *reinterpret_cast<const uint4*>(from);
  const uint32_t words[] = {raw.x, raw.y, raw.z, raw.w};
  Eight values;
  for (int i = 0; i < 4; ++i) {
    values.at[2 * i] = __uint_as_float(words[i] << 16);
    values.at[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
  }
  return values;
}
__device__ inline Eight Load8(const float* from) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  return {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
}
// Rounded to bf16.
__device__ inline uint4 Pack(const Eight& values) {
  uint32_t words[4];
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(values.at[2 * i], values.at[2 * i + 1]);
    words[i] = *reinterpret_cast<const uint32_t*>(&pair);
  }
  return {words[0], words[1], words[2], words[3]};
}
__device__ inline void Store8(const Eight& values, __nv_bfloat16* to) {
  *reinterpret_cast<uint4*>(to) = Pack(values);
}
__device__ inline void Store8(const Eight& values, float* to) {
  const float* v = values.at;
  reinterpret_cast<float4*>(to)[0] = {v[0], v[1], v[2], v[3]};
  reinterpret_cast<float4*>(to)[1] = {v[4], v[5], v[6], v[7]};
}
__device__ inline void RoundToBF16(Eight& values) {
  for (float& value : values.at) value = __bfloat162float(__float2bfloat16_rn(value));
}

__device__ inline void AddTo(Eight& sum, const Eight& values) {
  for (int i = 0; i < kEight; ++i) sum.at[i] += values.at[i];
}
__device__ inline float Sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }

// ---- sums in a fixed tree ----

// The sum over `width` neighbouring lanes (a power of two), the same bits in each of them. Whole warps call
// it.
__device__ inline float SumOfLanes(float value, int width) {
  for (int step = width / 2; step > 0; step /= 2) value += __shfl_xor_sync(~0U, value, step);
  return value;
}
// The sum over a block of kRowThreads threads, the same bits in each of them. `shared` has a float for each
// warp.
__device__ inline float SumOfBlock(float value, float* shared) {
  value = SumOfLanes(value, 32);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  return SumOfLanes(shared[threadIdx.x % (kRowThreads / 32)], kRowThreads / 32);
}

// ---- quantisation to e4m3 ----

struct Quantized {
  uint2 codes;  // of the eight channels
  float scale;  // of the block of 128
};

// Sixteen neighbouring threads hold a block; one beyond the end of the row holds zeros. Whole warps call it.
// Codes are rounded to nearest, ties to even, after clamping to +-448.
__device__ inline Quantized Quantize(const Eight& values) {
  float largest = 0.0F;
  for (const float value : values.at) largest = fmaxf(largest, fabsf(value));  // passes NaN over
  for (int step = kBlockThreads / 2; step > 0; step /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, step));
  }
  Quantized result;
  result.scale = PowerOfTwoScale(largest);
  const float inverse = 1.0F / result.scale;  // exact: a power of two
  uint16_t pairs[4];
  for (int i = 0; i < 4; ++i) {
    const float low = values.at[2 * i] * inverse;
    const float high = values.at[2 * i + 1] * inverse;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pairs[i]) : "f"(high), "f"(low));
  }
  result.codes.x = pairs[0] | static_cast<uint32_t>(pairs[1]) << 16;
  result.codes.y = pairs[2] | static_cast<uint32_t>(pairs[3]) << 16;
  return result;
}

// The eight channels from `column` on of a row of `width`, quantised, to row `row` of `out`; threads beyond
// the end come along. Whole warps call it.
__device__ inline void StoreQuantized(const Eight& values, const QuantizedRows& out, int64_t row,
                                      int64_t column, int64_t width) {
  const Quantized quantized = Quantize(values);
  if (column >= width) return;
  *reinterpret_cast<uint2*>(static_cast<uint8_t*>(out.codes) + row * out.codes_stride + column) =
      quantized.codes;
  if (column % kQuantBlock == 0) out.scales[row * out.scales_stride + column / kQuantBlock] = quantized.scale;
}

inline bool Aligned(const QuantizedRows& rows) {
  return reinterpret_cast<uintptr_t>(rows.codes) % 8 == 0 && rows.codes_stride % 8 == 0;
}

// ---- rotation ----

// (a, b) -> (a cos - b sin, a sin + b cos), each a rounded product and one FMA.
__device__ inline void Rotate(float& a, float& b, float cosine, float sine) {
  const float first = __fmaf_rn(a, cosine, -__fmul_rn(b, sine));
  b = __fmaf_rn(a, sine, __fmul_rn(b, cosine));
  a = first;
}
// Channels 8 i .. 8 i + 7 of a rotated part, whose pairs are (2 j, 2 j + 1); `angles` holds `pairs` cosines,
// then as many sines.
__device__ inline void RotatePairs(Eight& values, const float* angles, int pairs, int i) {
  const float4 cosine = *reinterpret_cast<const float4*>(angles + 4 * i);
  const float4 sine = *reinterpret_cast<const float4*>(angles + pairs + 4 * i);
  Rotate(values.at[0], values.at[1], cosine.x, sine.x);
  Rotate(values.at[2], values.at[3], cosine.y, sine.y);
  Rotate(values.at[4], values.at[5], cosine.z, sine.z);
  Rotate(values.at[6], values.at[7], cosine.w, sine.w);
}

}  // namespace sluice::ops::cuda
