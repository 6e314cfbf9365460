#pragma once

#include <cstdint>

#include "ops/cuda/gemm_launch.h"

// Which tile a number drawn from the counter stands for.
namespace sluice::ops::cuda {

struct Tile {
  int32_t row = 0;     // first row of x and y
  int32_t end = 0;     // of the group; 0: no tile is left
  int32_t output = 0;  // first output
  int32_t weight = 0;
  int32_t batch = 0;
  // Blocks side by side: of a last tile with no more outputs than one block has, each takes half of the rows
  // instead, and of few rows the second may have none: row >= end.
  bool narrow = false;
};

// Tiles of a cluster, whose blocks take equal parts of the rows or of the outputs.
template <TileShape kShape>
struct Tiles {
  static constexpr int kRows = kShape.all_rows();
  static constexpr int kOutputs = kShape.all_outputs();

  __device__ static int32_t RowTiles(const RowGroup& group) {
    return group.end > group.begin ? (group.end - group.begin + kRows - 1) / kRows : 0;
  }

  // A warp sums up the groups' row tiles: before[g] are those of the groups before g.
  __device__ static void Count(const LaunchedGemm& gemm, int32_t* before) {
    int32_t sum_before = 0;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int begin = 0; begin < gemm.group_count; begin += 32) {
      const int group = begin + lane;
      int32_t sum = group < gemm.group_count ? RowTiles(gemm.groups[group]) : 0;
      const int32_t own = sum;
      for (int step = 1; step < 32; step *= 2) {
        const int32_t other = __shfl_up_sync(~0U, sum, step);
        if (lane >= step) sum += other;
      }
      if (group < gemm.group_count) before[group] = sum_before + sum - own;
      sum_before += __shfl_sync(~0U, sum, 31);
    }
    if (lane == 0) before[gemm.group_count] = sum_before;
  }

  __device__ static int32_t All(const LaunchedGemm& gemm, const int32_t* before) {
    const int32_t output_tiles = (gemm.outputs + kOutputs - 1) / kOutputs;
    if (gemm.groups != nullptr) return before[gemm.group_count] * output_tiles;
    return (gemm.rows + kRows - 1) / kRows * output_tiles * gemm.batches;
  }

  // Tile `number` of those: the part of block `rank` of the cluster. Rows come fastest, so that clusters at
  // work together share a weight's tile; a last tile of few outputs comes last.
  __device__ static Tile Number(const LaunchedGemm& gemm, const int32_t* before, int32_t number,
                                int32_t rank) {
    const int32_t output_tiles = (gemm.outputs + kOutputs - 1) / kOutputs;
    if (gemm.groups == nullptr) {
      const int32_t row_tiles = (gemm.rows + kRows - 1) / kRows;
      const int32_t column = number / row_tiles;
      const int32_t batch = column / output_tiles;
      return Part(gemm,
                  {number % row_tiles * kRows, gemm.rows, column % output_tiles * kOutputs, batch, batch},
                  rank);
    }
    int32_t low = 0;  // the last group that begins at or before the tile
    int32_t high = gemm.group_count;
    while (high - low > 1) {
      const int32_t middle = (low + high) / 2;
      if (before[middle] * output_tiles <= number) {
        low = middle;
      } else {
        high = middle;
      }
    }
    const RowGroup group = gemm.groups[low];
    const int32_t inside = number - before[low] * output_tiles;
    const int32_t row_tiles = RowTiles(group);
    return Part(
        gemm,
        {group.begin + inside % row_tiles * kRows, group.end, inside / row_tiles * kOutputs, group.weight, 0},
        rank);
  }

 private:
  // Block `rank`'s of a cluster's tile.
  __device__ static Tile Part(const LaunchedGemm& gemm, Tile tile, int32_t rank) {
    if constexpr (kShape.below > 1) tile.row += rank * kShape.rows();
    if constexpr (kShape.beside) {
      tile.narrow = gemm.outputs - tile.output <= kShape.outputs();
      if (tile.narrow) {
        tile.row += rank * gemm.x_box;
        tile.end = min(tile.end, tile.row + gemm.x_box);
      } else {
        tile.output += rank * kShape.outputs();
      }
    }
    return tile;
  }
};

}  // namespace sluice::ops::cuda
