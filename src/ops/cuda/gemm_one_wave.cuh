#pragma once

#include <cstdint>

#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/gemm_multiply.cuh"
#include "ops/cuda/gemm_stages.cuh"
#include "ops/cuda/gemm_store.cuh"
#include "ops/cuda/gemm_tiles.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/ring.cuh"

// Tiles of one wave of 64 rows for each warpgroup. In small ones a block of k is short, so what is done once
// for it counts: two of them are a stage where their sums fit into the registers twice, the scales of four
// are loaded at once, and of two warpgroups side by side each would read all of x, so there is one.
namespace sluice::ops::cuda {

// The stages as a math warpgroup sees them.
template <TileShape kShape>
class WaveStages {
 public:
  static_assert(kShape.row_waves == 1 && !kShape.beside && kShape.below <= 2);
  static constexpr int kBlocks = kShape.stage_blocks();

  __device__ WaveStages(Shared<kShape>& shared, int warpgroup, int32_t rank)
      : shared_(shared),
        rank_(rank),
        x_(UniformDescriptor(shared.x[0][0] + warpgroup * 64 * 128)),
        w_(UniformDescriptor(shared.w[0][0])),
        row_(FirstRow(warpgroup)),
        scales_of_row_(SharedAddress(shared.x_scales[0][row_])) {}

  // This thread's first row; the other is 8 further.
  __device__ int row() const { return row_; }
  // Descriptors of block `b` of the stage: of this warpgroup's 64 rows, of the outputs.
  __device__ uint64_t x(int b) const {
    return Advance(x_, (stage_.slot * kBlocks + b) * Shared<kShape>::kXBytes);
  }
  __device__ uint64_t w(int b) const {
    return Advance(w_, (stage_.slot * kBlocks + b) * Shared<kShape>::kWBytes);
  }
  __device__ void WaitFull() const { Wait(&shared_.full[stage_.slot], stage_.parity); }
  __device__ void Next() { stage_.Next(); }
  // The first stage that was not released has been read. It is free once the math warps of all blocks that it
  // was copied to say so: a lane tells each of them.
  __device__ void Release() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane == 0) Arrive(&shared_.empty[released_.slot]);
    if (kShape.clustered() && lane == 1) ArriveIn(rank_ ^ 1, &shared_.empty[released_.slot]);
    released_.Next();
  }
  // scale_x of this thread's two rows and scale_w, of the next four blocks of k.
  __device__ void LoadScales(float (&x)[2][4], float (&w)[4]) {
    Wait(&shared_.scales_full[scales_.slot], scales_.parity);
    const uint32_t of_row = scales_of_row_ + scales_.slot * (kShape.rows() * 16);
    LoadFour(of_row, x[0]);
    LoadFour(of_row + 8 * 16, x[1]);
    LoadFour(SharedAddress(shared_.w_scales[scales_.slot][0]), w);
    __syncwarp();
    if (threadIdx.x % 32 == 0) Arrive(&shared_.scales_empty[scales_.slot]);
    scales_.Next();
  }

 private:
  __device__ static void LoadFour(uint32_t address, float (&values)[4]) {
    const uint4 four = LoadSixteen(address);
    values[0] = __uint_as_float(four.x);
    values[1] = __uint_as_float(four.y);
    values[2] = __uint_as_float(four.z);
    values[3] = __uint_as_float(four.w);
  }

  Shared<kShape>& shared_;
  const int32_t rank_;
  const uint64_t x_;
  const uint64_t w_;
  const int row_;
  const uint32_t scales_of_row_;
  Ring<Shared<kShape>::kStages> stage_;
  Ring<Shared<kShape>::kStages> released_;
  Ring<kScaleSlots> scales_;
};

// FP8: a stage is promoted while the next one is multiplied, the sums of the two in turns.
template <int kN, TileShape kShape>
class AheadSums {
 public:
  static constexpr int kBlocks = kShape.stage_blocks();
  static constexpr int kStages = 4 / kBlocks;  // that have their scales in common

  __device__ AheadSums(int32_t blocks, WaveStages<kShape>& stages, float (&acc)[kN / 2])
      : blocks_(blocks), stages_(stages), acc_(acc) {}

  __device__ void Sum() {
    Multiply(0);
    int32_t block = 0;
    for (; block + 4 < blocks_; block += 4) {
#pragma unroll
      for (int stage = 0; stage < kStages; ++stage) {
        Multiply((stage + 1) % 2);
        if (stage == 0) stages_.LoadScales(of_x_, of_w_);
        WgmmaWait<1>();
        Promote(stage, kBlocks);
      }
    }
    stages_.LoadScales(of_x_, of_w_);
    Last<0>(blocks_ - block);
  }

 private:
  __device__ void Multiply(int turn) {
    stages_.WaitFull();
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) Pin(sum_[turn][b]);
    WgmmaFence();
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      MultiplyBlock<true>(stages_.x(b), stages_.w(b), /*accumulate=*/false, sum_[turn][b]);
    }
    WgmmaCommit();
    stages_.Next();
  }
  // Of stage `stage` of four blocks; `left`: there are so many blocks from its first on.
  __device__ void Promote(int stage, int32_t left) {
    const int turn = stage % 2;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) Pin(sum_[turn][b]);
    stages_.Release();
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const int of_four = stage * kBlocks + b;
      const float scale[1][2] = {
          {__fmul_rn(of_x_[0][of_four], of_w_[of_four]), __fmul_rn(of_x_[1][of_four], of_w_[of_four])}};
      if (b < left) cuda::Promote(sum_[turn][b], scale, acc_);
    }
  }
  // The last four blocks or what there are of them, from stage kStage on, which is under way. Each way out
  // waits for its own products: where ways meet with products under way, ptxas runs one wgmma at a time
  // (C7514).
  template <int kStage>
  __device__ void Last(int32_t left) {
    if constexpr (kStage + 1 < kStages) {
      if (left > kBlocks) {
        Multiply((kStage + 1) % 2);
        WgmmaWait<1>();
        Promote(kStage, kBlocks);
        return Last<kStage + 1>(left - kBlocks);
      }
    }
    WgmmaWait<0>();
    Promote(kStage, left);
  }

  const int32_t blocks_;
  WaveStages<kShape>& stages_;
  float (&acc_)[kN / 2];
  float sum_[2][kBlocks][kN / 2];
  float of_x_[2][4];
  float of_w_[4];
};

// bf16: the sum over all of k is made by the tensor cores.
template <int kN, TileShape kShape>
__device__ void SumBf16(int32_t blocks, WaveStages<kShape>& stages, float (&acc)[kN / 2]) {
  constexpr int kBlocks = kShape.stage_blocks();
  const auto multiply = [&](int count, bool accumulate) {
    stages.WaitFull();
    Pin(acc);
    WgmmaFence();
#pragma unroll
    for (int b = 0; b < count; ++b) {
      MultiplyBlock<false>(stages.x(b), stages.w(b), accumulate || b > 0, acc);
    }
    WgmmaCommit();
    stages.Next();
  };
  int32_t block = 0;
  for (; block + kBlocks <= blocks; block += kBlocks) {
    multiply(kBlocks, block > 0);
    if (block > 0) {
      WgmmaWait<1>();
      stages.Release();
    }
  }
  const bool whole = block > 0;
  const bool half = block < blocks;  // a stage
  if (half) multiply(1, whole);
  WgmmaWait<0>();
  Pin(acc);
  if (whole) stages.Release();
  if (half) stages.Release();
}

// One warpgroup's part of a tile: 64 rows by kN outputs.
template <bool kFp8, int kN, TileShape kShape>
__device__ void ComputeWaveTile(const LaunchedGemm& gemm, const Tile& tile, WaveStages<kShape>& stages) {
  float acc[kN / 2];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) acc[i] = 0.0F;
  if constexpr (kFp8) {
    AheadSums<kN, kShape>(gemm.blocks, stages, acc).Sum();
  } else {
    SumBf16<kN>(gemm.blocks, stages, acc);
  }
  StoreSums<kN>(gemm, tile, tile.row + stages.row(), tile.output, acc);
}

template <bool kFp8, TileShape kShape>
__device__ void ComputeWaveTiles(const LaunchedGemm& gemm, int warpgroup, int32_t rank,
                                 Shared<kShape>& shared) {
  constexpr int kN = kShape.n;
  WaveStages<kShape> stages(shared, warpgroup, rank);
  Ring<kTileSlots> slot;
  while (true) {
    const Tile tile = TakeTile(slot, shared);
    if (tile.end == 0) return;
    // A last tile with few outputs costs no more than they do.
    const int32_t outputs = gemm.outputs - tile.output;
    if (kN > 64 && outputs <= 64) {
      ComputeWaveTile<kFp8, (kN > 64 ? 64 : kN)>(gemm, tile, stages);
    } else if (kN > 128 && outputs <= 128) {
      ComputeWaveTile<kFp8, (kN > 128 ? 128 : kN)>(gemm, tile, stages);
    } else {
      ComputeWaveTile<kFp8, kN>(gemm, tile, stages);
    }
    // As at the end of ComputeOneSumTiles.
    __syncwarp();
  }
}

}  // namespace sluice::ops::cuda
