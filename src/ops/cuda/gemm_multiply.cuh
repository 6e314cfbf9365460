#pragma once

#include <cstdint>

#include "ops/cuda/hopper.cuh"

// What a warpgroup does with a block of k, in any tile shape.
namespace sluice::ops::cuda {

inline constexpr int kWgmmaBytes = 32;  // of k in one wgmma, in either type

// d = (accumulate ? d : 0) + the products over 128 bytes of k; d is there after the commit's wait.
template <bool kFp8, int kRegisters>
__device__ void MultiplyBlock(uint64_t x, uint64_t w, bool accumulate, float (&d)[kRegisters]) {
  Pin(d);
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < 128; k += kWgmmaBytes) {
    if constexpr (kFp8) {
      WgmmaE4M3(d, Advance(x, k), Advance(w, k), accumulate || k > 0);
    } else {
      WgmmaBf16(d, Advance(x, k), Advance(w, k), accumulate || k > 0);
    }
  }
  WgmmaCommit();
}

// acc += a block's sums, scaled.
template <int kCount>
__device__ void Promote(const float (&sum)[kCount], const float (&scale)[2], float (&acc)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) acc[i] = __fmaf_rn(sum[i], scale[i % 4 / 2], acc[i]);
}

}  // namespace sluice::ops::cuda
