#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/gemm_tiles.cuh"

// A warpgroup's sums, as wgmma leaves them in registers (hopper.cuh), to y.
namespace sluice::ops::cuda {

__device__ inline void Store(float* to, float first, float second) {
  *reinterpret_cast<float2*>(to) = {first, second};
}
__device__ inline void Store(__nv_bfloat16* to, float first, float second) {
  *reinterpret_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(first, second);
}
__device__ inline void Store(float* to, float value) { *to = value; }
__device__ inline void Store(__nv_bfloat16* to, float value) { *to = __float2bfloat16_rn(value); }

__device__ inline uint32_t Pack(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// Lane q of four has word q of each of four lines, and gets the words of line q: from v[line] to lane order.
__device__ inline uint4 TransposeQuad(const uint32_t (&v)[4], int q) {
  const bool odd = (q & 1) != 0;
  const bool upper = (q & 2) != 0;
  uint32_t a[4];
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t other = __shfl_xor_sync(~0U, odd ? v[i] : v[i + 1], 1);
    a[i] = odd ? other : v[i];
    a[i + 1] = odd ? v[i + 1] : other;
  }
  const uint32_t first = __shfl_xor_sync(~0U, upper ? a[0] : a[2], 2);
  const uint32_t second = __shfl_xor_sync(~0U, upper ? a[1] : a[3], 2);
  return upper ? uint4{first, second, a[2], a[3]} : uint4{a[0], a[1], first, second};
}

// Whether bf16 rows of y can be written 16 bytes at a time.
__device__ inline bool InSixteens(const LaunchedGemm& gemm) {
  return (reinterpret_cast<uintptr_t>(gemm.y) % 16 == 0) && gemm.y_stride % 8 == 0 && gemm.y_step % 8 == 0 &&
         gemm.outputs % 8 == 0;
}

// From group `kFirst` of eight outputs on. !kFp32Pairs: fp32 one by one. Two that are stored at once must lie
// in an even register and the one behind it, as sums of a wgmma do; then an accumulator is in the register
// bank of its sum, and an FMA whose scale is there too takes two clocks, in every block of k and not only
// here.
template <typename T, int kN, int kFirst, bool kFp32Pairs>
__device__ void StorePairs(const LaunchedGemm& gemm, const Tile& tile, int32_t row, int32_t output,
                           const float (&acc)[kN / 2]) {
  const int q = static_cast<int>(threadIdx.x) % 4;
  const bool pairs = (kFp32Pairs || sizeof(T) == 2) && gemm.y_stride % 2 == 0 && gemm.outputs % 2 == 0 &&
                     gemm.y_step % 2 == 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (row + 8 * i >= tile.end) continue;
    T* y = static_cast<T*>(gemm.y) + (row + 8 * i) * gemm.y_stride + tile.batch * gemm.y_step;
#pragma unroll
    for (int j = kFirst; j < kN / 8; ++j) {
      const int32_t at = output + 8 * j + 2 * q;
      if (at >= gemm.outputs) continue;
      const float first = acc[4 * j + 2 * i];
      const float second = acc[4 * j + 2 * i + 1];
      if (pairs) {
        Store(y + at, first, second);
      } else {
        Store(y + at, first);
        if (at + 1 < gemm.outputs) Store(y + at + 1, second);
      }
    }
  }
}

// 64 x kN sums of a warpgroup, from `output` on; `row` is this thread's first row.
template <int kN, bool kFp32Pairs = true>
__device__ void StoreSums(const LaunchedGemm& gemm, const Tile& tile, int32_t row, int32_t output,
                          const float (&acc)[kN / 2]) {
  if (!gemm.y_is_bf16) return StorePairs<float, kN, 0, kFp32Pairs>(gemm, tile, row, output, acc);
  constexpr int kWhole = kN / 32 * 4;  // groups of eight outputs that go in sixteens of bytes
  if (kWhole == 0 || !InSixteens(gemm)) {
    return StorePairs<__nv_bfloat16, kN, 0, kFp32Pairs>(gemm, tile, row, output, acc);
  }
  const int q = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    auto* y = static_cast<__nv_bfloat16*>(gemm.y) + (row + 8 * i) * gemm.y_stride + tile.batch * gemm.y_step;
#pragma unroll
    for (int j = 0; j < kWhole; j += 4) {
      uint32_t v[4];
#pragma unroll
      for (int u = 0; u < 4; ++u) v[u] = Pack(acc[4 * (j + u) + 2 * i], acc[4 * (j + u) + 2 * i + 1]);
      const uint4 eight = TransposeQuad(v, q);
      const int32_t at = output + 8 * (j + q);
      if (row + 8 * i < tile.end && at < gemm.outputs) *reinterpret_cast<uint4*>(y + at) = eight;
    }
  }
  if constexpr (kWhole < kN / 8) {
    StorePairs<__nv_bfloat16, kN, kWhole, kFp32Pairs>(gemm, tile, row, output, acc);
  }
}

}  // namespace sluice::ops::cuda
