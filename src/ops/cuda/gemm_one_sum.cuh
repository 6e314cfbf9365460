#pragma once

#include <cstdint>

#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/gemm_multiply.cuh"
#include "ops/cuda/gemm_stages.cuh"
#include "ops/cuda/gemm_store.cuh"
#include "ops/cuda/gemm_tiles.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/ring.cuh"

// FP8 tiles whose accumulators leave room for one sum: each is promoted before the warpgroup's next wgmma,
// which is of its next wave of rows, over the same outputs, or of the next block of k. What lies between two
// wgmmas is all that the tensor cores may have to wait for.
namespace sluice::ops::cuda {

// The stages as a math warpgroup sees them.
template <TileShape kShape>
class OneSumStages {
 public:
  static_assert(kShape.one_sum() && !kShape.bf16);
  static constexpr int kStages = Shared<kShape>::kStages;
  static constexpr int kWaveRows = 64 * kShape.warpgroups;
  // Parts of so many outputs, of which each has one weight scale.
  __host__ __device__ static constexpr int ScaleParts(int outputs) {
    return outputs > kShape.scale_outputs() ? outputs / kShape.scale_outputs() : 1;
  }

  __device__ OneSumStages(Shared<kShape>& shared, int warpgroup)
      : shared_(shared),
        x_(UniformDescriptor(shared.x[0][0] + warpgroup * 64 * 128)),
        w_(UniformDescriptor(shared.w[0][0])),
        row_(FirstRow(warpgroup)),
        scales_of_rows_(SharedAddress(shared.x_scales[0][row_])) {}

  // Before a tile's first block. A tile of 192 outputs begins at a block of weight scales or in its middle.
  __device__ void Begin(const Tile& tile) { second_of_w_ = tile.output % 128 == 0 ? 0 : kNextOfW; }
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

  // scale_x * scale_w of this thread's two rows of each wave, of each part of the outputs, of a block of k.
  // All of a tile's blocks in order; of_four: a block's number % 4.
  template <int kWaves, int kParts>
  __device__ void LoadScales(int of_four, bool last, float (&scale)[kWaves][kParts][2]) {
    static_assert(kParts <= 3);  // as many as 192 outputs have
    const int slot = scales_.slot;
    if (of_four == 0) Wait(&shared_.scales_full[slot], scales_.parity);
    const uint32_t x = scales_of_rows_ + slot * (kShape.rows() * 16) + of_four * 4;
    const uint32_t w = SharedAddress(&shared_.w_scales[slot][0][of_four]);
    float of_w[kParts];
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      of_w[part] = LoadFloat(w + (part == 0 ? 0 : part == 1 ? second_of_w_ : kNextOfW));
    }
#pragma unroll
    for (int wave = 0; wave < kWaves; ++wave) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float of_x = LoadFloat(x + (wave * kWaveRows + 8 * i) * 16);
#pragma unroll
        for (int part = 0; part < kParts; ++part) scale[wave][part][i] = __fmul_rn(of_x, of_w[part]);
      }
    }
    if (of_four == 3 || last) {
      __syncwarp();
      if (threadIdx.x % 32 == 0) Arrive(&shared_.scales_empty[slot]);
      scales_.Next();
    }
  }

 private:
  static constexpr uint32_t kNextOfW = 16;  // bytes to the scales of the weight's next block of outputs

  Shared<kShape>& shared_;
  const uint64_t x_;
  const uint64_t w_;
  const int row_;
  const uint32_t scales_of_rows_;
  Ring<kStages> stage_;
  Ring<kScaleSlots> scales_;
  int last_ = 0;
  uint32_t second_of_w_ = 0;  // bytes to the scales of a tile's second 64 outputs
};

// The products of a stage, which is full, and their promotion; meanwhile the tensor cores work for the other
// warpgroup. Returns whether the next stage was full before the last promotion; !ask: false.
template <int kN, int kWaves, TileShape kShape>
__device__ bool AddStage(OneSumStages<kShape>& stages, int of_four, bool last, bool ask,
                         float (&acc)[kWaves][kN / 2]) {
  float scale[kWaves][OneSumStages<kShape>::ScaleParts(kN)][2];
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
__device__ void SumBlocks(int32_t blocks, OneSumStages<kShape>& stages, float (&acc)[kWaves][kN / 2]) {
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
__device__ void ComputeWaves(const LaunchedGemm& gemm, const Tile& tile, OneSumStages<kShape>& stages) {
  float acc[kWaves][kN / 2];
#pragma unroll
  for (int wave = 0; wave < kWaves; ++wave) {
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) acc[wave][i] = 0.0F;
  }
  SumBlocks<kN, kWaves>(gemm.blocks, stages, acc);
#pragma unroll
  for (int wave = 0; wave < kWaves; ++wave) {
    const int32_t row = tile.row + stages.row() + wave * OneSumStages<kShape>::kWaveRows;
    StoreSums<kN, /*kFp32Pairs=*/false>(gemm, tile, row, tile.output, acc[wave]);
  }
}

// The same for as many waves as there are rows for.
template <int kN, TileShape kShape>
__device__ void ComputeRows(const LaunchedGemm& gemm, const Tile& tile, OneSumStages<kShape>& stages) {
  if (kShape.row_waves > 1 && tile.end - tile.row <= OneSumStages<kShape>::kWaveRows) {
    ComputeWaves<kN, 1>(gemm, tile, stages);
  } else {
    ComputeWaves<kN, kShape.row_waves>(gemm, tile, stages);
  }
}

template <TileShape kShape>
__device__ void ComputeOneSumTiles(const LaunchedGemm& gemm, int warpgroup, Shared<kShape>& shared) {
  OneSumStages<kShape> stages(shared, warpgroup);
  Ring<kTileSlots> slot;
  while (true) {
    const Tile tile = TakeTile(slot, shared);
    if (tile.end == 0) return;
    stages.Begin(tile);
    // What a tile has not got costs nothing: rows at all, a second wave of them, all of its outputs.
    const int32_t outputs = gemm.outputs - tile.output;
    if (tile.row >= tile.end) {
      for (int32_t block = 0; block < gemm.blocks; ++block) {
        stages.WaitFull();
        stages.Next();
        stages.ReleaseLast();
      }
    } else if (outputs <= 64) {
      ComputeRows<64>(gemm, tile, stages);
    } else if (kShape.n > 128 && outputs <= 128) {
      ComputeRows<128>(gemm, tile, stages);
    } else {
      ComputeRows<kShape.n>(gemm, tile, stages);
    }
    // What was stored for some lanes only leaves the compiler in doubt whether they run together. If they may
    // not, rings and descriptors go through a warp's ordinary registers, for every wgmma.
    __syncwarp();
  }
}

}  // namespace sluice::ops::cuda
