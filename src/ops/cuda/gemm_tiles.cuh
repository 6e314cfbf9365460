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
};

// Tiles of a cluster; the blocks of a pair take half of the rows or of the outputs each. Of the outputs the
// second may have none: a block's tile may begin beyond the last.
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
    const int32_t row = kShape.below ? rank * kShape.rows() : 0;
    const int32_t output = kShape.beside ? rank * kShape.outputs() : 0;
    if (gemm.groups == nullptr) {
      const int32_t row_tiles = (gemm.rows + kRows - 1) / kRows;
      const int32_t column = number / row_tiles;
      const int32_t batch = column / output_tiles;
      return {number % row_tiles * kRows + row, gemm.rows, column % output_tiles * kOutputs + output, batch,
              batch};
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
    return {group.begin + inside % row_tiles * kRows + row, group.end, inside / row_tiles * kOutputs + output,
            group.weight, 0};
  }
};

}  // namespace sluice::ops::cuda
