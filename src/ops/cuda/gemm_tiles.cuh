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
  // Blocks side by side: whether each brings the rows that it has itself.
  bool apart = false;
};

// Tiles of a cluster, whose blocks take equal parts of the rows or of the outputs.
//
// Of blocks side by side each has all rows and half of the outputs. In a last column that one of them could
// do alone each has half of the rows instead. And where the last round of tiles is for no more than half of
// the clusters, those tiles are cut into two of half the rows, which take little more than half as long. What
// is left for such a part may be no rows at all: row >= end.
template <TileShape kShape>
class Tiles {
 public:
  static constexpr int kRows = kShape.all_rows();
  static constexpr int kOutputs = kShape.all_outputs();

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

  // `before`: of Count, if there are groups.
  __device__ Tiles(const LaunchedGemm& gemm, const int32_t* before)
      : gemm_(gemm),
        before_(before),
        output_tiles_((gemm.outputs + kOutputs - 1) / kOutputs),
        row_tiles_((gemm.rows + kRows - 1) / kRows) {
    const int32_t whole =
        output_tiles_ * (gemm.groups != nullptr ? before[gemm.group_count] : row_tiles_ * gemm.batches);
    int32_t cut = 0;
    if constexpr (kShape.beside) {
      const int32_t clusters = static_cast<int32_t>(gridDim.x) / kShape.blocks();
      const int32_t last_round = whole % clusters;
      if (2 * last_round <= clusters && !IsNarrow((output_tiles_ - 1) * kOutputs)) cut = last_round;
    }
    first_cut_ = whole - cut;
    all_ = whole + cut;
  }

  // Those that are cut count twice.
  __device__ int32_t all() const { return all_; }

  // Tile `number` of all: the part of block `rank` of the cluster.
  __device__ Tile Number(int32_t number, int32_t rank) const {
    if (number < first_cut_) return Part(Whole(number), rank);
    const int32_t half = number - first_cut_;
    Tile tile = Whole(first_cut_ + half / 2);
    tile.output += rank * kShape.outputs();
    return RowsApart(tile, half % 2);
  }

 private:
  __device__ static int32_t RowTiles(const RowGroup& group) {
    return group.end > group.begin ? (group.end - group.begin + kRows - 1) / kRows : 0;
  }

  // A cluster's tile. Rows come fastest, so that clusters at work together share a weight's tile; a last tile
  // of few outputs comes last.
  __device__ Tile Whole(int32_t number) const {
    if (gemm_.groups == nullptr) {
      const int32_t column = number / row_tiles_;
      const int32_t batch = column / output_tiles_;
      return {number % row_tiles_ * kRows, gemm_.rows, column % output_tiles_ * kOutputs, batch, batch};
    }
    int32_t low = 0;  // the last group that begins at or before the tile
    int32_t high = gemm_.group_count;
    while (high - low > 1) {
      const int32_t middle = (low + high) / 2;
      if (before_[middle] * output_tiles_ <= number) {
        low = middle;
      } else {
        high = middle;
      }
    }
    const RowGroup group = gemm_.groups[low];
    const int32_t inside = number - before_[low] * output_tiles_;
    const int32_t row_tiles = RowTiles(group);
    return {group.begin + inside % row_tiles * kRows, group.end, inside / row_tiles * kOutputs, group.weight,
            0};
  }

  // Block `rank`'s of a cluster's tile.
  __device__ Tile Part(Tile tile, int32_t rank) const {
    if constexpr (kShape.below > 1) tile.row += rank * kShape.rows();
    if constexpr (kShape.beside) {
      if (IsNarrow(tile.output)) return RowsApart(tile, rank);
      tile.output += rank * kShape.outputs();
    }
    return tile;
  }

  // Whether one of two blocks side by side could do a tile from `output` on alone.
  __device__ bool IsNarrow(int32_t output) const { return gemm_.outputs - output <= kShape.outputs(); }

  // The first or second half of a tile's rows, for a block that brings them itself.
  __device__ Tile RowsApart(Tile tile, int32_t half) const {
    tile.row += half * gemm_.x_box;
    tile.end = min(tile.end, tile.row + gemm_.x_box);
    tile.apart = true;
    return tile;
  }

  const LaunchedGemm& gemm_;
  const int32_t* before_;
  const int32_t output_tiles_;
  const int32_t row_tiles_;
  int32_t first_cut_;  // tiles from this one on are cut
  int32_t all_;
};

}  // namespace sluice::ops::cuda
