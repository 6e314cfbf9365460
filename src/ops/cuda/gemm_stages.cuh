#pragma once

#include <cstdint>

#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/gemm_tiles.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/ring.cuh"

// Operands on their way to the math warpgroups: stages in shared memory, who fills and who frees them. In a
// cluster the first block draws the tiles for all, and each brings its share of what they share to all.
namespace sluice::ops::cuda {

inline constexpr int kTileSlots = 2;
inline constexpr int kScaleSlots = 4;
inline constexpr int kSharedBytes = 227 * 1024;
inline constexpr int kOtherBytes = 8 * 1024;  // at most, of all that is not an operand

template <TileShape kShape>
struct Shared {
  // Of a block of k.
  static constexpr int kXBytes = kShape.rows() * 128;
  static constexpr int kWBytes = kShape.outputs() * 128;
  static constexpr int kBlocks = kShape.stage_blocks();
  static constexpr int kScaleBytes = kScaleSlots * (kShape.rows() + kShape.w_scales()) * 16;
  static constexpr int kStages = (kSharedBytes - kOtherBytes - kScaleBytes) / (kBlocks * (kXBytes + kWBytes));
  alignas(1024) uint8_t x[kStages][kBlocks][kXBytes];
  alignas(1024) uint8_t w[kStages][kBlocks][kWBytes];
  // Of four blocks of k at a time.
  alignas(16) float x_scales[kScaleSlots][kShape.rows()][4];
  alignas(16) float w_scales[kScaleSlots][kShape.w_scales()][4];
  uint64_t full[kStages];
  uint64_t empty[kStages];
  uint64_t scales_full[kScaleSlots];
  uint64_t scales_empty[kScaleSlots];
  uint64_t tile_full[kTileSlots];
  uint64_t tile_empty[kTileSlots];
  // From the first block of a cluster to the others.
  uint64_t number_full[kTileSlots];
  uint64_t number_empty[kTileSlots];
  int32_t number[kTileSlots];
  Tile tile[kTileSlots];
  int32_t tiles_before[kMostGroups + 1];
};

template <bool kFp8, TileShape kShape>
__device__ void InitBarriers(Shared<kShape>& shared) {
  constexpr int kScaleLanes = kFp8 ? 32 : 0;
  for (int i = 0; i < Shared<kShape>::kStages; ++i) {
    InitBarrier(&shared.full[i], 1);
    InitBarrier(&shared.empty[i], kShape.math_threads() / 32 * kShape.blocks());
  }
  for (int i = 0; i < kScaleSlots; ++i) {
    InitBarrier(&shared.scales_full[i], 32);
    InitBarrier(&shared.scales_empty[i], kShape.math_threads() / 32);
  }
  for (int i = 0; i < kTileSlots; ++i) {
    InitBarrier(&shared.tile_full[i], 1);
    InitBarrier(&shared.tile_empty[i], kShape.math_threads() + kScaleLanes);
    InitBarrier(&shared.number_full[i], 1);
    InitBarrier(&shared.number_empty[i], kShape.clustered() ? kShape.blocks() - 1 : 1);
  }
  FenceBarrierInit();
}

// The numbers of a cluster's tiles, one after the other. Every cluster draws until its number is beyond the
// last; the one that draws last of all leaves the counter as it was found, at 0.
template <TileShape kShape>
class Numbers {
 public:
  // Of `all` tiles. `first`: the first block's first draw.
  __device__ Numbers(const LaunchedGemm& gemm, Shared<kShape>& shared, int32_t rank, int32_t all,
                     int32_t first)
      : gemm_(gemm), shared_(shared), rank_(rank), all_(all), drawn_(first) {}

  // Not below `all`: no tile is left.
  __device__ int32_t Next() {
    int32_t number = drawn_;
    if (rank_ == 0) {
      if (gemm_.fixed_tiles) {
        drawn_ += static_cast<int32_t>(gridDim.x) / kShape.blocks();
      } else if (number < all_) {
        drawn_ = atomicAdd(gemm_.tiles, 1);  // comes while this tile is brought
      } else if (number == all_ + static_cast<int32_t>(gridDim.x) / kShape.blocks() - 1) {
        *gemm_.tiles = 0;
      }
    }
    if constexpr (kShape.clustered()) {
      if (rank_ == 0) {
        Wait(&shared_.number_empty[slot_.slot], slot_.parity ^ 1);
        for (int block = 1; block < kShape.blocks(); ++block) {
          SendWord(block, &shared_.number[slot_.slot], number, &shared_.number_full[slot_.slot]);
        }
      } else {
        ArriveExpecting(&shared_.number_full[slot_.slot], sizeof(int32_t));
        Wait(&shared_.number_full[slot_.slot], slot_.parity);
        number = *static_cast<volatile int32_t*>(&shared_.number[slot_.slot]);
        ArriveIn(0, &shared_.number_empty[slot_.slot]);
      }
      slot_.Next();
    }
    return number;
  }

 private:
  const LaunchedGemm& gemm_;
  Shared<kShape>& shared_;
  const int32_t rank_;
  const int32_t all_;
  int32_t drawn_;
  Ring<kTileSlots> slot_;
};

template <TileShape kShape>
__device__ void BringTiles(const LaunchedGemm& gemm, const CUtensorMap* x_map, const CUtensorMap* w_map,
                           int32_t rank, int32_t first, Shared<kShape>& shared) {
  constexpr int kBlocks = Shared<kShape>::kBlocks;
  Ring<Shared<kShape>::kStages> stage;
  Ring<kTileSlots> slot;
  const Tiles<kShape> tiles(gemm, shared.tiles_before);
  Numbers<kShape> numbers(gemm, shared, rank, tiles.all(), first);
  while (true) {
    const int32_t number = numbers.Next();
    Tile tile;
    if (number < tiles.all()) tile = tiles.Number(number, rank);
    Wait(&shared.tile_empty[slot.slot], slot.parity ^ 1);
    shared.tile[slot.slot] = tile;
    Arrive(&shared.tile_full[slot.slot]);
    slot.Next();
    if (tile.end == 0) return;
    // Where half of the rows that are copied to both goes in a stage, and where it comes from.
    const bool both = kShape.beside && !tile.apart;
    const int32_t x_place = both ? rank * gemm.x_box : 0;
    const uint32_t bytes = kBlocks * (gemm.x_box * (both ? 2 : 1) * 128 + Shared<kShape>::kWBytes);
    const int32_t w_place = kShape.below > 1 ? rank * kShape.w_box() : 0;
    const int32_t w_row = tile.weight * gemm.outputs + tile.output + w_place;
    for (int32_t block = 0; block < gemm.blocks; block += kBlocks) {  // of the last stage maybe not all
      Wait(&shared.empty[stage.slot], stage.parity ^ 1);
      uint64_t* full = &shared.full[stage.slot];
      ArriveExpecting(full, bytes);
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const int32_t column = (block + b) * gemm.block_inputs;
        const int32_t x_column = tile.batch * gemm.x_step + column;
        uint8_t* x = shared.x[stage.slot][b];
        uint8_t* w = shared.w[stage.slot][b];
        if (both) {
          CopyBoxToCluster<kShape.blocks()>(x_map, x + x_place * 128, full, x_column, tile.row + x_place);
        } else {
          CopyBox(x_map, x, full, x_column, tile.row);
        }
        if constexpr (kShape.below > 1) {
          CopyBoxToCluster<kShape.blocks()>(w_map, w + w_place * 128, full, column, w_row);
        } else {
          CopyBox(w_map, w, full, column, w_row);
        }
      }
      stage.Next();
    }
  }
}

// The next of the tiles that BringTiles draws; each thread that works on tiles takes every one.
template <TileShape kShape>
__device__ Tile TakeTile(Ring<kTileSlots>& slot, Shared<kShape>& shared) {
  Wait(&shared.tile_full[slot.slot], slot.parity);
  const Tile tile = shared.tile[slot.slot];
  Arrive(&shared.tile_empty[slot.slot]);
  slot.Next();
  return tile;
}

// A warp that brings the scales of four blocks of k at a time: four lanes those of a row, which are side by
// side, and the first four lanes those of the weight, the next four those of its next block of outputs where
// a tile has some of them.
template <TileShape kShape>
__device__ void BringScales(const LaunchedGemm& gemm, Shared<kShape>& shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int32_t output_blocks = (gemm.outputs + 127) / 128;
  Ring<kScaleSlots> scales;
  Ring<kTileSlots> slot;
  while (true) {
    const Tile tile = TakeTile(slot, shared);
    if (tile.end == 0) return;
    if (kShape.clustered() && tile.row >= tile.end) continue;  // of which nothing is computed
    // Sums of rows beyond the group are not stored, so their scales may be anything.
    const int32_t rows = min(kShape.rows(), tile.end - tile.row);
    const float* x = gemm.x_scales + (tile.row + lane / 4) * gemm.x_scales_stride + lane % 4;
    int32_t output_block = tile.output / 128;
    if constexpr (kShape.w_scales() > 1) output_block = min(output_block + lane / 4, output_blocks - 1);
    const float* w = gemm.w_scales + (tile.weight * output_blocks + output_block) * gemm.blocks + lane % 4;
    for (int32_t block = 0; block < gemm.blocks; block += 4) {
      Wait(&shared.scales_empty[scales.slot], scales.parity ^ 1);
      if (block + lane % 4 < gemm.blocks) {
#pragma unroll 4
        for (int row = lane / 4; row < rows; row += 8) {
          CopyFour(x + (row - lane / 4) * gemm.x_scales_stride + block,
                   &shared.x_scales[scales.slot][row][lane % 4], true);
        }
        if (lane < 4 * kShape.w_scales()) {
          CopyFour(w + block, &shared.w_scales[scales.slot][lane / 4][lane % 4], true);
        }
      }
      ArriveAfterCopies(&shared.scales_full[scales.slot]);
      scales.Next();
    }
  }
}

}  // namespace sluice::ops::cuda
