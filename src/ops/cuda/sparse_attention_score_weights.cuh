#pragma once

#include <cmath>
#include <cstdint>

#include "ops/cuda/attention_math.cuh"
#include "ops/cuda/latent_gather.cuh"
#include "ops/cuda/sparse_attention_few.cuh"

// How the blocks of threads that make scores of few rows make weights of them as well. What a block of keys'
// weights are relative to depends on the largest exponents of all in front of it, which others have: they
// publish them.
//
// Whoever waits has published all of its own, and waits for blocks of threads with a lower number. Those of a
// launch start in the order of their numbers. So the lowest that has not ended runs and waits for nobody who
// has not published, whatever SMs other kernels hold and however few are left; and blocks of the launch
// behind take none before all of this one have started (LetDependentsStart).
namespace sluice::ops::cuda {

// ---- the largest exponents of a block of keys ----

// 0 is "not known yet", which is in memory between launches. No exponent is: ~0 is a NaN that no instruction
// makes.
__device__ inline void Publish(const LaunchedAttention& launched, int item, int block,
                               const float (&exponents)[2]) {
  uint32_t* to = PublishedInMemory(launched, item, block);
  if (Lane() % 4 != 0) return;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    // Relaxed: nothing else is to be seen with it.
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to + HeadOf(i)),
                 "r"(~__float_as_uint(exponents[i]))
                 : "memory");
  }
}
__device__ inline uint32_t LoadPublished(const uint32_t* from) {
  uint32_t published;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(published) : "l"(from) : "memory");
  return published;
}

// What the weights of the blocks in front of `block` are relative to in the end, of the thread's two heads;
// waits until those blocks' exponents are known. The four lanes of a head have a quarter of the blocks each.
__device__ inline void FollowReferences(const LaunchedAttention& launched, int item, int block,
                                        float (&references)[2]) {
  constexpr int kQuarter = kMostBlocks / 4;
#pragma unroll
  for (float& reference : references) reference = -INFINITY;
  if (block == 0) return;
  uint32_t published[kQuarter][2];
  bool known;
  do {
    known = true;
#pragma unroll
    for (int k = 0; k < kQuarter; ++k) {
      // Behind the last the last once more, which moves no reference.
      const int of = min(Lane() % 4 * kQuarter + k, block - 1);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        published[k][i] = LoadPublished(PublishedInMemory(launched, item, of) + HeadOf(i));
      }
    }
#pragma unroll
    for (int k = 0; k < kQuarter; ++k) known = known && published[k][0] != 0 && published[k][1] != 0;
  } while (!__all_sync(~0U, known));
#pragma unroll 1
  for (int quarter = 0; quarter * kQuarter < block; ++quarter) {
    float own[2] = {references[0], references[1]};
#pragma unroll
    for (int k = 0; k < kQuarter; ++k) {
#pragma unroll
      for (int i = 0; i < 2; ++i) own[i] = NextReference(own[i], __uint_as_float(~published[k][i]));
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) references[i] = __shfl_sync(~0U, own[i], Lane() / 4 * 4 + quarter);
  }
}

// ---- weights ----

// A block's weights in the place of its scores: a thread's, of which `exponents` are its heads' largest, and
// `before` what those of the block before are relative to.
__device__ inline void StoreWeights(const LaunchedAttention& launched, int item, int block,
                                    const float (&s)[32], const float (&exponents)[2],
                                    const float (&before)[2]) {
  float references[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) references[i] = NextReference(before[i], exponents[i]);
  uint32_t weights[16];
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    weights[j] = Weights(s[2 * j], s[2 * j + 1], launched.exponent_scale, references[j % 2]);
  }
  auto& weighed = *reinterpret_cast<WeighedBlock*>(BlockInMemory(launched, item, block));
  const int quad = Lane() % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int piece = 0; piece < 8; piece += 4) {
      uint32_t v[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) v[j] = weights[2 * (piece + j) + i];
      TransposeQuad(v);
      *reinterpret_cast<uint4*>(weighed.weights + PlaceInPanel(HeadOf(i), piece + quad)) = {v[0], v[1], v[2],
                                                                                            v[3]};
    }
    const float sum = SumOfBlock(weights, i);
    if (quad == 0) {
      weighed.sums[HeadOf(i)] = sum;
      weighed.rescale[HeadOf(i)] = Exp2(before[i] - references[i]);
    }
  }
}

// Of a warpgroup's blocks, every `step`-th from `first` to `last`, all published. `s` and `exponents` are
// those of the last; of the others each thread's scores are in memory, where it stored them.
__device__ inline void Weigh(const LaunchedAttention& launched, int item, int first, int step, int last,
                             const float (&s)[32], const float (&exponents)[2], int warpgroup) {
  float before[2];
#pragma unroll 1
  for (int block = first; block < last; block += step) {
    const float4* from = ScoresInMemory(launched, item, block);
    float scores[32];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float4 four = LoadScores(from + 128 * j);
      scores[4 * j] = four.x;
      scores[4 * j + 1] = four.y;
      scores[4 * j + 2] = four.z;
      scores[4 * j + 3] = four.w;
    }
    FollowReferences(launched, item, block, before);
    float largest[2];
    LargestExponents(scores, launched.exponent_scale, largest);
    asm volatile("bar.sync %0, 128;" ::"r"(1 + warpgroup) : "memory");  // all have read them
    StoreWeights(launched, item, block, scores, largest, before);
  }
  FollowReferences(launched, item, last, before);
  StoreWeights(launched, item, last, s, exponents, before);
}

}  // namespace sluice::ops::cuda
