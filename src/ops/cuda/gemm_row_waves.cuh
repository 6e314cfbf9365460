#pragma once

#include <cstdint>

#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/gemm_multiply.cuh"
#include "ops/cuda/gemm_stages.cuh"
#include "ops/cuda/gemm_store.cuh"
#include "ops/cuda/gemm_tiles.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/ring.cuh"

// FP8 tiles whose warpgroups have waves of rows, one after the other, over the same outputs and so under one
// weight scale. What lies between the wgmmas of two waves is all that the tensor cores may have to wait for.
namespace sluice::ops::cuda {

// The stages as a math warpgroup sees them.
template <TileShape kShape>
class RowStages {
 public:
  static_assert(kShape.row_waves > 1 && !kShape.bf16);
  static constexpr int kStages = Shared<kShape>::kStages;
  static constexpr int kWaveRows = 64 * kShape.warpgroups;

  __device__ RowStages(Shared<kShape>& shared, int warpgroup)
      : shared_(shared),
        x_(UniformDescriptor(shared.x[0][0] + warpgroup * 64 * 128)),
        w_(UniformDescriptor(shared.w[0][0])),
        row_(FirstRow(warpgroup)),
        scales_of_rows_(SharedAddress(shared.x_scales[0][row_])) {}

  // This thread's first row of the first wave (the other is 8 further, the next wave's kWaveRows).
  __device__ int row() const { return row_; }
  // Descriptors: of this warpgroup's 64 rows of a wave, of the outputs.
  __device__ uint64_t x(int wave) const {
    return Advance(x_, stage_.slot * Shared<kShape>::kXBytes + wave * kWaveRows * 128);
  }
  __device__ uint64_t w() const { return Advance(w_, stage_.slot * Shared<kShape>::kWBytes); }

  __device__ void WaitFull() const { Wait(&shared_.full[stage_.slot], stage_.parity); }
  __device__ bool IsFull() const { return IsOver(&shared_.full[stage_.slot], stage_.parity); }
  __device__ void Next() {
    last_ = stage_.slot;
    stage_.Next();
  }
  // The stage before the last Next has been read. It is free once the math warps of all blocks that it was
  // copied to say so: a lane tells each of them.
  __device__ void ReleaseLast() const {
    const auto lane = threadIdx.x % 32;
    if (lane < kShape.blocks()) ArriveAt(AddressIn(lane, &shared_.empty[last_]));
  }

  // scale_x * scale_w of this thread's two rows of each wave, of a block of k. All of a tile's blocks in
  // order; of_four: a block's number % 4.
  template <int kWaves>
  __device__ void LoadScales(int of_four, bool last, float (&scale)[kWaves][2]) {
    const int slot = scales_.slot;
    if (of_four == 0) Wait(&shared_.scales_full[slot], scales_.parity);
    const uint32_t x = scales_of_rows_ + slot * (kShape.rows() * 16) + of_four * 4;
    const float of_w = LoadFloat(SharedAddress(&shared_.w_scales[slot][of_four]));
#pragma unroll
    for (int wave = 0; wave < kWaves; ++wave) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scale[wave][i] = __fmul_rn(LoadFloat(x + (wave * kWaveRows + 8 * i) * 16), of_w);
      }
    }
    if (of_four == 3 || last) {
      __syncwarp();
      if (threadIdx.x % 32 == 0) Arrive(&shared_.scales_empty[slot]);
      scales_.Next();
    }
  }

 private:
  Shared<kShape>& shared_;
  const uint64_t x_;
  const uint64_t w_;
  const int row_;
  const uint32_t scales_of_rows_;
  Ring<kStages> stage_;
  Ring<kScaleSlots> scales_;
  int last_ = 0;
};

// The products of a stage, which is full, and their promotion. There are no registers for a second sum,
// so each is promoted at once; meanwhile the tensor cores work for the other warpgroup. Returns whether the
// next stage was full before the last promotion; !ask: false.
template <int kN, int kWaves, TileShape kShape>
__device__ bool AddStage(RowStages<kShape>& stages, int of_four, bool last, bool ask,
                         float (&acc)[kWaves][kN / 2]) {
  float scale[kWaves][2];
  bool full = false;
#pragma unroll
  for (int wave = 0; wave < kWaves; ++wave) {
    float sum[kN / 2];
    Pin(sum);
    WgmmaFence();
    MultiplyBlock<true>(stages.x(wave), stages.w(), /*accumulate=*/false, sum);
    WgmmaCommit();
    if (wave == 0) stages.LoadScales(of_four, last, scale);
    if (wave == kWaves - 1) stages.Next();
    WgmmaWait<0>();
    Pin(sum);
    if (wave == kWaves - 1) {
      stages.ReleaseLast();
      if (ask) full = stages.IsFull();
    }
    Promote(sum, scale[wave], acc[wave]);
  }
  return full;
}

// Four blocks of k at a time, as the scales come. Within four the compiler asks for the next stage before it
// promotes and looks at the answer after that; over the end of its loop it does not, so there it is told to.
template <int kN, int kWaves, TileShape kShape>
__device__ void SumRowWaves(int32_t blocks, RowStages<kShape>& stages, float (&acc)[kWaves][kN / 2]) {
  stages.WaitFull();
  int32_t block = 0;
  while (block + 4 <= blocks) {
    bool full = false;
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      if (b > 0) stages.WaitFull();
      full = AddStage<kN>(stages, b, /*last=*/false, /*ask=*/b == 3, acc);
    }
    block += 4;
    if (full && block + 4 <= blocks) continue;  // worked out before the promotion ends
    if (!full && block < blocks) stages.WaitFull();
  }
  for (int b = 0; block < blocks; ++b) {
    const bool last = ++block == blocks;
    AddStage<kN>(stages, b, last, /*ask=*/false, acc);
    if (!last) stages.WaitFull();
  }
}

// One warpgroup's part of a tile: kWaves times 64 rows by kN outputs.
template <int kN, int kWaves, TileShape kShape>
__device__ void ComputeRowTile(const LaunchedGemm& gemm, const Tile& tile, RowStages<kShape>& stages) {
  float acc[kWaves][kN / 2];
#pragma unroll
  for (int wave = 0; wave < kWaves; ++wave) {
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) acc[wave][i] = 0.0F;
  }
  SumRowWaves<kN, kWaves>(gemm.blocks, stages, acc);
#pragma unroll
  for (int wave = 0; wave < kWaves; ++wave) {
    const int32_t row = tile.row + stages.row() + wave * RowStages<kShape>::kWaveRows;
    StoreSums<kN, /*kFp32Pairs=*/false>(gemm, tile, row, tile.output, acc[wave]);
  }
}

template <TileShape kShape>
__device__ void ComputeRowTiles(const LaunchedGemm& gemm, int warpgroup, Shared<kShape>& shared) {
  RowStages<kShape> stages(shared, warpgroup);
  Ring<kTileSlots> slot;
  while (true) {
    const Tile tile = TakeTile(slot, shared);
    if (tile.end == 0) return;
    // What a tile has not got costs nothing: rows at all, a second wave of them, more than 64 outputs.
    const int32_t rows = tile.end - tile.row;
    const bool narrow = gemm.outputs - tile.output <= 64;
    if (rows <= 0) {
      for (int32_t block = 0; block < gemm.blocks; ++block) {
        stages.WaitFull();
        stages.Next();
        stages.ReleaseLast();
      }
    } else if (rows <= RowStages<kShape>::kWaveRows && narrow) {
      ComputeRowTile<64, 1>(gemm, tile, stages);
    } else if (rows <= RowStages<kShape>::kWaveRows) {
      ComputeRowTile<kShape.n, 1>(gemm, tile, stages);
    } else if (narrow) {
      ComputeRowTile<64, kShape.row_waves>(gemm, tile, stages);
    } else {
      ComputeRowTile<kShape.n, kShape.row_waves>(gemm, tile, stages);
    }
    // What was stored for some lanes only leaves the compiler in doubt whether they run together. If they may
    // not, rings and descriptors go through a warp's ordinary registers, for every wgmma.
    __syncwarp();
  }
}

}  // namespace sluice::ops::cuda
