#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/latent_gather.cuh"

// The arithmetic of a block's weights (sparse_attention.h), the same wherever they are made.
namespace sluice::ops::cuda {

// 2^x to some 2 ulp; what is below the normal numbers is 0.
__device__ inline float Exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The exponent that a block's weights are relative to. Weights far below 1 or some way above it are as exact
// as others, so it follows the largest exponent only in great steps, and what is summed already need not be
// multiplied.
__device__ inline float NextReference(float before, float largest) {
  constexpr float kStep = 8.0F;
  return largest > __fadd_rn(before, kStep) ? largest : before;
}

// Of a warpgroup's scores [64 heads, 64 keys], s[4 j + 2 i + c] of a thread is that of head HeadOf(i) and of
// the block's key 8 j + 2 (lane % 4) + c.
__device__ inline int Lane() { return static_cast<int>(threadIdx.x % 32); }
__device__ inline int HeadOf(int i) {
  return static_cast<int>(threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4) + 8 * i;
}

// A warp's arrival: one for all that its lanes have done.
__device__ inline void ArriveOnce(uint64_t* barrier) {
  __syncwarp();
  if (Lane() == 0) Arrive(barrier);
}

// s = queries x keys over panels [kFirst, kEnd), added to those before; under way on return.
template <int kFirst, int kEnd>
__device__ void ScorePanels(const uint8_t (*query_panels)[kPanelBytes],
                            const uint8_t (*key_panels)[kPanelBytes], float (&s)[32]) {
  const uint64_t queries = TileDescriptor(query_panels);
  const uint64_t keys = TileDescriptor(key_panels);
  WgmmaFence();
#pragma unroll
  for (int panel = kFirst; panel < kEnd; ++panel) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const uint64_t step = static_cast<uint64_t>(panel) * (kPanelBytes / 16) + 2 * k;
      WgmmaBf16(s, queries + step, keys + step, panel > 0 || k > 0);
    }
  }
  WgmmaCommit();
}

// Only `keys` of the block are there.
__device__ inline void MaskScores(int32_t keys, float (&s)[32]) {
  const int column = 2 * (Lane() % 4);
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    // Compared with what is the same in all lanes: 16 columns would be kept in registers from block to block.
    if (column >= keys - (8 * (i / 4) + i % 2)) s[i] = -INFINITY;
  }
}

__device__ inline float LargestOfBlock(const float (&s)[32], int i) {
  float largest = fmaxf(s[2 * i], s[2 * i + 1]);
#pragma unroll
  for (int j = 1; j < 8; ++j) largest = fmaxf(largest, fmaxf(s[4 * j + 2 * i], s[4 * j + 2 * i + 1]));
  largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 1));
  return fmaxf(largest, __shfl_xor_sync(~0U, largest, 2));
}

// Of the thread's two heads.
__device__ inline void LargestExponents(const float (&s)[32], float exponent_scale, float (&exponents)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) exponents[i] = __fmul_rn(LargestOfBlock(s, i), exponent_scale);
}

// Of two neighbouring keys, bf16.
__device__ inline uint32_t Weights(float first, float second, float exponent_scale, float reference) {
  uint32_t weights;  // __floats2bfloat162_rn's, whose halves the compiler takes apart and joins again
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
      : "=r"(weights)
      : "f"(Exp2(__fmaf_rn(second, exponent_scale, -reference))),
        "f"(Exp2(__fmaf_rn(first, exponent_scale, -reference))));
  return weights;
}

// Over the block's weights, those of s[2 j] and s[2 j + 1] in weights[j].
__device__ inline float SumOfBlock(const uint32_t (&weights)[16], int i) {
  float sum = 0.0F;
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const uint32_t pair = weights[2 * j + i];
    sum = __fadd_rn(__fadd_rn(sum, __uint_as_float(pair << 16)), __uint_as_float(pair & 0xffff0000U));
  }
  sum = __fadd_rn(sum, __shfl_xor_sync(~0U, sum, 1));
  return __fadd_rn(sum, __shfl_xor_sync(~0U, sum, 2));
}

// A transposition of 4 x 4, four neighbouring lanes by v: first of its 2 x 2 blocks, then of the blocks.
__device__ inline void TransposeQuad(uint32_t (&v)[4]) {
  const int quad = Lane() % 4;
  const auto exchange = [&](int bit, uint32_t& low, uint32_t& high) {
    const bool upper = (quad & bit) != 0;
    const uint32_t got = __shfl_xor_sync(~0U, upper ? low : high, bit);
    (upper ? low : high) = got;
  };
  exchange(1, v[0], v[1]);
  exchange(1, v[2], v[3]);
  exchange(2, v[0], v[2]);
  exchange(2, v[1], v[3]);
}

// o[8 j + 2 (lane % 4) + c] = first and second of values(j), bf16, for j in [0, kPieces): 16 bytes at a time,
// once four neighbouring lanes have exchanged theirs. A warp's work; `present`: the lane's row is there.
template <int kPieces, class Values>
__device__ void StoreRow(bool present, __nv_bfloat16* o, Values&& values) {
  const int quad = Lane() % 4;
#pragma unroll
  for (int j = 0; j < kPieces; j += 4) {
    uint32_t v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = values(j + i);
      const __nv_bfloat162 rounded = __floats2bfloat162_rn(pair.x, pair.y);
      v[i] = reinterpret_cast<const uint32_t&>(rounded);
    }
    TransposeQuad(v);
    if (present) *reinterpret_cast<uint4*>(o + 8 * (j + quad)) = {v[0], v[1], v[2], v[3]};
  }
}

}  // namespace sluice::ops::cuda
