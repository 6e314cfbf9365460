#pragma once

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/index_scores_kernel.h"
#include "ops/cuda/index_sums.cuh"
#include "ops/cuda/ring.cuh"

// What a block of the scoring kernel scores. The pages that each group of rows sees, group after group, are
// one line; a number drawn from the counter stands for a share of it, and what a share has of one group is a
// tile. Lengths are read from the positions in device memory, so a launch is the same one whatever they are.
namespace sluice::ops::cuda {

inline constexpr int kMostRows = kQueryColumns / 32;  // of a group
inline constexpr int kMostShare = 32;                 // pages; a lane looks up one
inline constexpr int kLeastShare = 8;
inline constexpr int kSlots = 2;

struct Tile {
  int32_t row;
  int32_t rows;
  int32_t first_page;
  int32_t pages;            // 0: no tile is left
  int32_t last[kMostRows];  // position that each row sees last; -1: no such row
  int32_t page[kMostShare];
};

struct Tiles {
  Tile tile[kSlots];
  uint64_t drawn[kSlots];  // the tile is described
  uint64_t left[kSlots];   // and no longer needed
  // By 32 groups: their pages, then (DrawTiles) the pages up to their end.
  int32_t pages[kMostQueryGroups / 32];
};

// Pages that the rows of the group see; 0 past the last group.
__device__ inline int32_t PagesOf(const IndexScores& work, int32_t group) {
  if (group >= work.group_count) return 0;
  const QueryGroup rows = work.groups[group];
  int32_t last = 0;
#pragma unroll
  for (int i = 0; i < kMostRows; ++i) {
    if (i < rows.rows) last = max(last, work.positions[rows.row + i]);
  }
  return last / kPageKeys + 1;
}

// By all threads of the block, before DrawTiles and a barrier.
__device__ inline void CountPages(const IndexScores& work, Tiles& tiles) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (auto part = static_cast<int32_t>(threadIdx.x) / 32; 32 * part < work.group_count;
       part += static_cast<int32_t>(blockDim.x) / 32) {
    const int32_t pages = __reduce_add_sync(~0U, PagesOf(work, 32 * part + lane));
    if (lane == 0) tiles.pages[part] = pages;
  }
}

// Over the lanes of a warp, this one's included.
__device__ inline int32_t SumUpTo(int32_t value) {
  const auto lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int32_t before = __shfl_up_sync(~0U, value, step);
    if (lane >= step) value += before;
  }
  return value;
}

// By a warp: one share after the other until none is left.
__device__ inline void DrawTiles(const IndexScores& work, int32_t* counter, Tiles& tiles) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int32_t parts = (work.group_count + 31) / 32;
  int32_t line = 0;
  for (int32_t part = lane; part - lane < parts; part += 32) {
    const int32_t end = line + SumUpTo(part < parts ? tiles.pages[part] : 0);
    if (part < parts) tiles.pages[part] = end;
    line = __shfl_sync(~0U, end, 31);
  }
  __syncwarp();
  const auto blocks = static_cast<int32_t>(gridDim.x);
  // So many shares that blocks end within an eighth of each other's work, or one each.
  const int32_t share = min(kMostShare, max(kLeastShare, (line / (8 * blocks) + 3) / 4 * 4));
  const int32_t shares = (line + share - 1) / share;
  // Where shares are one each at most, a block's number says which; fixed_tiles, always. Otherwise a block
  // draws until it gets none, and who draws last of all leaves the counter as it was found, at 0.
  const bool drawn = shares > blocks && !work.fixed_tiles;
  const auto next = [&](int32_t number) {
    if (!drawn) return number + blocks;
    if (lane == 0) {
      number = atomicAdd(counter, 1);
      if (number == shares + blocks - 1) *counter = 0;
    }
    return __shfl_sync(~0U, number, 0);
  };
  Ring<kSlots> slot;
  for (int32_t number = next(static_cast<int32_t>(blockIdx.x) - blocks); number < shares;
       number = next(number)) {
    const int32_t end = min(line, (number + 1) * share);
    for (int32_t at = number * share; at < end;) {
      // The 32 groups that the page lies in, then the group.
      int32_t part = 0;
      while (tiles.pages[part] <= at) ++part;
      const int32_t start = part == 0 ? 0 : tiles.pages[part - 1];
      const int32_t pages = PagesOf(work, 32 * part + lane);
      const int32_t group_end = start + SumUpTo(pages);
      const int owner = __popc(__ballot_sync(~0U, group_end <= at));
      const QueryGroup group = work.groups[32 * part + owner];
      const int32_t first_page = at - __shfl_sync(~0U, group_end - pages, owner);
      const int32_t count = min(end, __shfl_sync(~0U, group_end, owner)) - at;
      const int32_t last = lane < min(group.rows, kMostRows) ? work.positions[group.row + lane] : -1;
      const int32_t page =
          lane < count ? work.page_tables[group.sequence * work.table_stride + first_page + lane] : 0;
      Wait(&tiles.left[slot.slot], slot.parity ^ 1);
      Tile& tile = tiles.tile[slot.slot];
      if (lane == 0) {
        tile.row = group.row;
        tile.rows = group.rows;
        tile.first_page = first_page;
        tile.pages = count;
      }
      if (lane < kMostRows) tile.last[lane] = last;
      tile.page[lane] = page;
      __syncwarp();
      if (lane == 0) Arrive(&tiles.drawn[slot.slot]);
      slot.Next();
      at += count;
    }
  }
  Wait(&tiles.left[slot.slot], slot.parity ^ 1);
  if (lane == 0) {
    tiles.tile[slot.slot].pages = 0;
    Arrive(&tiles.drawn[slot.slot]);
  }
}

}  // namespace sluice::ops::cuda
