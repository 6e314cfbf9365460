#pragma once

#include <cstdint>

#include "ops/cuda/hopper.cuh"

// What a warpgroup does with a block of k, in any tile shape.
namespace sluice::ops::cuda {

inline constexpr int kWgmmaBytes = 32;  // of k in one wgmma, in either type

// Of the same tile in all lanes. Its lower half is an or over the lanes, so that the compiler has it in a
// uniform register, where wgmma takes it from, and keeps it rather than to work it out for every block of k.
__device__ inline uint64_t UniformDescriptor(const void* tile) {
  const uint64_t descriptor = TileDescriptor(tile);
  return (descriptor & 0xffffffff00000000ULL) | __reduce_or_sync(~0U, static_cast<uint32_t>(descriptor));
}

// The first of the two rows of a wave whose sums a thread has; the other is 8 further. Math warpgroups
// stand one below the other.
__device__ inline int FirstRow(int warpgroup) {
  return warpgroup * 64 + static_cast<int>(threadIdx.x) % 128 / 32 * 16 +
         static_cast<int>(threadIdx.x) % 32 / 4;
}

// d = (accumulate ? d : 0) + the products over 128 bytes of k. Between a WgmmaFence and a WgmmaCommit, after
// whose wait d is there.
template <bool kFp8, int kRegisters>
__device__ void MultiplyBlock(uint64_t x, uint64_t w, bool accumulate, float (&d)[kRegisters]) {
#pragma unroll
  for (int k = 0; k < 128; k += kWgmmaBytes) {
    if constexpr (kFp8) {
      WgmmaE4M3(d, Advance(x, k), Advance(w, k), accumulate || k > 0);
    } else {
      WgmmaBf16(d, Advance(x, k), Advance(w, k), accumulate || k > 0);
    }
  }
}

// acc += a block's sums, scaled: scale[part][row] for equal parts of the outputs and a thread's two rows.
template <int kCount, int kParts>
__device__ void Promote(const float (&sum)[kCount], const float (&scale)[kParts][2], float (&acc)[kCount]) {
  static_assert(kCount % (4 * kParts) == 0);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    acc[i] = __fmaf_rn(sum[i], scale[i / (kCount / kParts)][i % 4 / 2], acc[i]);
  }
}

}  // namespace sluice::ops::cuda
