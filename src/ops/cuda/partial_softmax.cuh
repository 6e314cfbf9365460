#pragma once

#include <cuda_runtime.h>

#include "ops/cuda/sparse_attention_launch.h"
#include "ops/cuda/sparse_attention_tiles.cuh"

// The softmax over one partition of the keys, how two of them become one, and where they wait for each other.
namespace sluice::ops::cuda {

constexpr int kMathThreads = static_cast<int>(kAttendThreads);
constexpr int kChannels = 128;  // of o in a thread: 2 heads x 64

// 2^x to some 2 ulp; what is below the normal numbers is 0.
__device__ inline float Exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// A thread's share of the softmax over some keys, not yet divided. o[4 j + 2 i + c] belongs to channel
// 8 j + 2 (lane % 4) + c of its warpgroup's 256, and to the head 16 warp + lane / 4 + 8 i of the tile.
struct Partial {
  float o[kChannels];
  float largest[2];  // exponent, to base 2
  float sum[2];
};

// In memory each thread has 33 x 16 bytes, side by side with its neighbours'.
__device__ inline float4* OwnPlace(const LaunchedAttention& launched, int64_t number) {
  return reinterpret_cast<float4*>(launched.partials + number * kPartialBytes) + threadIdx.x - kGatherThreads;
}

__device__ inline void Store(const Partial& partial, float4* place) {
#pragma unroll
  for (int i = 0; i < kChannels / 4; ++i) {
    place[i * kMathThreads] = {partial.o[4 * i], partial.o[4 * i + 1], partial.o[4 * i + 2],
                               partial.o[4 * i + 3]};
  }
  place[kChannels / 4 * kMathThreads] = {partial.largest[0], partial.largest[1], partial.sum[0],
                                         partial.sum[1]};
}

// Loads by way of L2, where other SMs' stores are.
__device__ inline void Load(const float4* place, Partial& partial) {
#pragma unroll
  for (int i = 0; i < kChannels / 4; ++i) {
    const float4 o = __ldcg(place + i * kMathThreads);
    partial.o[4 * i] = o.x;
    partial.o[4 * i + 1] = o.y;
    partial.o[4 * i + 2] = o.z;
    partial.o[4 * i + 3] = o.w;
  }
  const float4 sums = __ldcg(place + kChannels / 4 * kMathThreads);
  partial.largest[0] = sums.x;
  partial.largest[1] = sums.y;
  partial.sum[0] = sums.z;
  partial.sum[1] = sums.w;
}

// partial = partial and the one at `place` together. kEarlier: that one's keys come first. The formula is
// not symmetric in its rounding.
template <bool kEarlier>
__device__ void Merge(const float4* place, Partial& partial) {
  const float4 sums = __ldcg(place + kChannels / 4 * kMathThreads);
  const float other_largest[2] = {sums.x, sums.y};
  const float other_sum[2] = {sums.z, sums.w};
  float own_factor[2] = {};
  float other_factor[2] = {};
  const auto merged = [&](int i, float own, float other) {
    return kEarlier ? __fmaf_rn(other, other_factor[i], __fmul_rn(own, own_factor[i]))
                    : __fmaf_rn(own, own_factor[i], __fmul_rn(other, other_factor[i]));
  };
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float largest = fmaxf(partial.largest[i], other_largest[i]);
    own_factor[i] = Exp2(partial.largest[i] - largest);
    other_factor[i] = Exp2(other_largest[i] - largest);
    partial.largest[i] = largest;
    partial.sum[i] = merged(i, partial.sum[i], other_sum[i]);
  }
#pragma unroll
  for (int i = 0; i < kChannels / 4; ++i) {
    const float4 o = __ldcg(place + i * kMathThreads);
    partial.o[4 * i] = merged(0, partial.o[4 * i], o.x);
    partial.o[4 * i + 1] = merged(0, partial.o[4 * i + 1], o.y);
    partial.o[4 * i + 2] = merged(1, partial.o[4 * i + 2], o.z);
    partial.o[4 * i + 3] = merged(1, partial.o[4 * i + 3], o.w);
  }
}

}  // namespace sluice::ops::cuda
