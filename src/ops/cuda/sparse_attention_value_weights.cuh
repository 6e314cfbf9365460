#pragma once

#include <cmath>
#include <cstdint>

#include "ops/cuda/attention_math.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/latent_gather.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_few.cuh"
#include "ops/cuda/sparse_attention_value_parts.cuh"

// How weights come to the values of few rows: made of scores in the block of threads itself, or, where so
// many blocks share a row that each would make all of them again, by the launch before
// (sparse_attention_score_weights.cuh).
namespace sluice::ops::cuda {

// ---- made by the launch before: a warp's work ----

// One thread's.
template <bool kFp8, int kParts>
__device__ void CopyWeights(const LaunchedAttention& launched, int item, int blocks,
                            ValueShared<kFp8, kParts>& shared) {
  FenceGlobal();
  Ring<Split<kFp8, kParts>::kStages> stage;
  for (int block = 0; block < blocks; ++block, stage.Next()) {
    const auto& weighed = *reinterpret_cast<const WeighedBlock*>(BlockInMemory(launched, item, block));
    auto& softmax = shared.softmax[stage.slot];
    uint64_t* full = &shared.full[stage.slot];
    Wait(&shared.empty[stage.slot], stage.parity ^ 1);
    ArriveExpecting(full, kPanelBytes + sizeof(softmax));
    CopyBytes(weighed.weights, shared.panels[stage.slot][0], kPanelBytes, full);
    CopyBytes(weighed.sums, &softmax, sizeof(softmax), full);
  }
}

template <bool kFp8, int kParts>
__device__ void BringWeights(const LaunchedAttention& launched, int item, int part, int blocks,
                             ValueShared<kFp8, kParts>& shared) {
  WaitForEarlierGrids();
  if (Elected()) CopyWeights(launched, item, blocks, shared);
  __syncwarp();
  // What those who made them published is 0 again for the next launch: of some of the item's blocks.
  constexpr int kOwn = kMostBlocks / kParts;
  auto* published = reinterpret_cast<uint4*>(PublishedInMemory(launched, item, part * kOwn));
  for (int i = Lane(); i < kOwn * static_cast<int>(kTileHeads) / 4; i += 32) published[i] = {0, 0, 0, 0};
}

// ---- made here: a warpgroup's work, of every kStep-th block ----

// Written by the launch before.
__device__ inline float LoadLargest(const float* from) {
  float largest;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(largest) : "l"(from) : "memory");
  return largest;
}

// A thread's scores of a block, and of its heads the largest exponents of the blocks since the warpgroup's
// last.
template <int kStep>
struct ScoredBlock {
  float4 scores[8];
  float largest[kStep][2];

  // Under way on return.
  __device__ void Load(const LaunchedAttention& launched, int item, int block) {
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      // In front of block 0 its own once more, which moves no reference.
      const float* from = LargestInMemory(launched, item, max(block - (kStep - 1 - i), 0));
      for (int j = 0; j < 2; ++j) largest[i][j] = LoadLargest(from + HeadOf(j));
    }
    const float4* from = ScoresInMemory(launched, item, block);
#pragma unroll
    for (int j = 0; j < 8; ++j) scores[j] = LoadScores(from + 128 * j);
  }
};

// `reference`: of the warpgroup's block before.
template <bool kFp8, int kParts>
__device__ void WeighBlock(const ScoredBlock<Split<kFp8, kParts>::kWeighGroups>& from, int block,
                           float exponent_scale, float (&reference)[2], ValueShared<kFp8, kParts>& shared) {
  using Split = Split<kFp8, kParts>;
  float rescale[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float before = -INFINITY;
#pragma unroll
    for (int k = 0; k < Split::kWeighGroups; ++k) {
      before = reference[i];
      reference[i] = NextReference(before, from.largest[k][i]);
    }
    if (block == 0) before = -INFINITY;
    rescale[i] = Exp2(before - reference[i]);
  }
  uint32_t weights[16];
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    const float4& s = from.scores[j];
    weights[2 * j] = Weights(s.x, s.y, exponent_scale, reference[0]);
    weights[2 * j + 1] = Weights(s.z, s.w, exponent_scale, reference[1]);
  }
  float sums[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) sums[i] = SumOfBlock(weights, i);
  const Stage<Split::kStages> stage(block);
  Wait(&shared.empty[stage.slot], stage.parity ^ 1);
  uint8_t* panel = shared.panels[stage.slot][0];
  const int place = Opaque(PlaceInPanel(HeadOf(0), 0) + 4 * (Lane() % 4));
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    *reinterpret_cast<uint32_t*>(panel + (place ^ (j / 2 * 16)) + j % 2 * (8 * 128)) = weights[j];
  }
  if (Lane() % 4 == 0) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      shared.softmax[stage.slot].sums[HeadOf(i)] = sums[i];
      shared.softmax[stage.slot].rescale[HeadOf(i)] = rescale[i];
    }
  }
  ArriveOnce(&shared.full[stage.slot]);
}

template <bool kFp8, int kParts>
__device__ void MakeWeights(const LaunchedAttention& launched, int item, int group, int blocks,
                            ValueShared<kFp8, kParts>& shared) {
  using Split = Split<kFp8, kParts>;
  constexpr int kStep = Split::kWeighGroups;
  constexpr int kAhead = Split::kScoresAhead;
  WaitForEarlierGrids();
  if (blocks == 0) return;
  ScoredBlock<kStep> ahead[kAhead];
  // Behind the last block the last once more, which is not used.
  const auto load = [&](int block, int i) { ahead[i].Load(launched, item, min(block, blocks - 1)); };
#pragma unroll
  for (int i = 0; i < kAhead - 1; ++i) load(group + i * kStep, i);
  float reference[2] = {-INFINITY, -INFINITY};
#pragma unroll 1
  for (int block = group; block < blocks; block += kAhead * kStep) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      load(block + (i + kAhead - 1) * kStep, (i + kAhead - 1) % kAhead);
      const int own = block + i * kStep;
      if (own < blocks) WeighBlock<kFp8, kParts>(ahead[i], own, launched.exponent_scale, reference, shared);
    }
  }
}

}  // namespace sluice::ops::cuda
