#pragma once

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/index_scores_kernel.h"

// The arithmetic of scores, which every form of the kernel shares: products of a page's keys and the heads of
// some rows, and the sum over a row's heads.
namespace sluice::ops::cuda {

inline constexpr int kPageKeys = 64;
inline constexpr int kPageLines = 66;  // of 128 bytes: keys, then scales
inline constexpr int kPageBytes = kPageLines * 128;
inline constexpr int kPageRoom = 9 * 1024;  // a page in shared memory, each at a multiple of 1,024

// hopper.cuh's, of the tile at this address of shared memory and its bytes 32 k of each row on; in 32 bits,
// for the sake of the instructions around a multiplication.
__device__ inline uint64_t TileDescriptor(uint32_t tile, uint32_t k) {
  constexpr uint64_t kHigh = 0x40000040;  // a swizzle of 128 bytes; eight rows are 1,024 bytes
  return kHigh << 32 | (((tile & 0x3ffffU) >> 4 | 0x10000U) + 2 * k);
}

// d = keys [64, 128] x queries [2 kCount, 128]^T, tiles at these addresses of shared memory; it is under way
// when this returns.
template <int kCount>
__device__ void Multiply(float (&d)[kCount], uint32_t keys, uint32_t queries) {
  Pin(d);
  WgmmaFence();
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k) WgmmaE4M3(d, TileDescriptor(keys, k), TileDescriptor(queries, k), k > 0);
  WgmmaCommit();
}
template <int kCount>
__device__ void WaitFor(float (&d)[kCount]) {
  WgmmaWait<0>();
  Pin(d);
}

// 2 max(0, value), exact, NaN for a NaN (so that the selection can report it): an addition, since the pipe of
// minima and maxima is half as wide and would be the kernel's bound.
__device__ inline float TwiceRelu(float value) { return __fadd_rn(value, fabsf(value)); }

// How a thread of a math warpgroup deals with products of a page's keys and kColumns columns: it holds keys
// 16 warp + lane / 4 + 8 i of the page times columns 8 j + 2 (lane % 4) + c in d[4 j + 2 i + c], and the
// columns are the heads of row 0, then those of row 1, and so on. Of the sums of its quad (four threads,
// which hold the same keys) it stores those of the rows lane % 2 + 2 m and of key i = lane / 2 % 2; of a row
// alone the even threads store.
template <int kHeads, int kColumns>
class Summer {
 public:
  static constexpr int kRows = kColumns / kHeads;
  static constexpr int kStored = kRows > 1 ? kRows / 2 : 1;  // rows of a thread

  // Of rows from `row` on, which see up to the positions last[...], -1 where there is no such row; their
  // gates.
  __device__ Summer(const IndexScores& work, int32_t row, const int32_t* last, int32_t first_page,
                    const float* gates) {
    const int lane = static_cast<int>(threadIdx.x) % 128;
    const int quad = lane % 4;
    const int key = lane / 32 * 16 + lane % 32 / 4 + 8 * (quad / 2);
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      const float2 gate = *reinterpret_cast<const float2*>(gates + 8 * j + 2 * quad);
      half_gates_[2 * j] = 0.5F * gate.x;
      half_gates_[2 * j + 1] = 0.5F * gate.y;
    }
    const int32_t first = first_page * kPageKeys + key;
#pragma unroll
    for (int m = 0; m < kStored; ++m) {
      const int of_tile = kRows > 1 ? quad % 2 + 2 * m : 0;
      scores_[m] = work.scores + (row + of_tile) * work.scores_stride + first;
      last_[m] = kRows > 1 || quad % 2 == 0 ? last[of_tile] - first : -1;
    }
    odd_row_ = quad % 2 != 0;
    second_key_ = quad / 2 != 0;
    // Scales come as lines 64 and 65 of the swizzled page: line l holds its 16 bytes number c at c ^ l % 8.
    scale_ = static_cast<uint32_t>(kPageKeys * 128 + key / 32 * 128 + ((key % 32 / 4) ^ (key / 32)) * 16 +
                                   key % 4 * 4);
  }

  // Of the thread's key of the page at this address of shared memory.
  __device__ float Scale(uint32_t page) const {
    float scale;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(scale) : "r"(page + scale_) : "memory");
    return scale;
  }

  // The scores of page `page` behind the one where the summer stands.
  __device__ void Store(const float (&d)[kColumns / 2], float scale, int page) const {
    constexpr int kRowColumns = kHeads / 8;
    float sum[kRows][2] = {};
#pragma unroll
    for (int j = 0; j < kRowColumns; ++j) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int column = r * kRowColumns + j;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          sum[r][i] = __fmaf_rn(half_gates_[2 * column], TwiceRelu(d[4 * column + 2 * i]), sum[r][i]);
          sum[r][i] = __fmaf_rn(half_gates_[2 * column + 1], TwiceRelu(d[4 * column + 2 * i + 1]), sum[r][i]);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < kStored; ++m) {
      float both[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if constexpr (kRows == 1) {
          both[i] = sum[0][i] + __shfl_xor_sync(~0U, sum[0][i], 1);
        } else {
          const float give = odd_row_ ? sum[2 * m][i] : sum[2 * m + 1][i];
          const float keep = odd_row_ ? sum[2 * m + 1][i] : sum[2 * m][i];
          both[i] = keep + __shfl_xor_sync(~0U, give, 1);
        }
      }
      const float give = second_key_ ? both[0] : both[1];
      const float keep = second_key_ ? both[1] : both[0];
      const float all = keep + __shfl_xor_sync(~0U, give, 2);
      if (page * kPageKeys <= last_[m]) scores_[m][page * kPageKeys] = __fmaf_rn(all, scale, 0.0F);
    }
  }
  __device__ void NextPages(int pages) {
#pragma unroll
    for (int m = 0; m < kStored; ++m) {
      scores_[m] += pages * kPageKeys;
      last_[m] -= pages * kPageKeys;
    }
  }

 private:
  float half_gates_[kColumns / 4];
  float* scores_[kStored];  // of its key of the page where it stands
  int32_t last_[kStored];   // how far from there the row sees
  uint32_t scale_;
  bool odd_row_;
  bool second_key_;
};

__device__ inline void TellOfLaunch(LaunchRecord* record) {
  atomicAdd(&record->launches, 1);
  atomicMin(&record->fewest_blocks, static_cast<int32_t>(gridDim.x));
  atomicMax(&record->most_blocks, static_cast<int32_t>(gridDim.x));
}

}  // namespace sluice::ops::cuda
