#pragma once

#include <cuda_bf16.h>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_launch.h"

// How warpgroups bring queries of sparse attention into shared memory, and find the rows of its selected keys
// (key_copies.cuh brings those).
namespace sluice::ops::cuda {

constexpr int kBlockKeys = 64;
constexpr int kBlockSlots = 2;
constexpr int kGatherThreads = 128;
constexpr int kGatherWarps = kGatherThreads / 32;
// Arrivals of a gathering warpgroup for a block: of its warps, or, from bf16, of its threads' copies.
template <bool kFp8>
constexpr int kGatherArrivals = kFp8 ? kGatherWarps : kGatherThreads;
constexpr int kWarpKeys = kBlockKeys / kGatherWarps;  // of a block, gathered by one warp
constexpr int kPanelBytes = 64 * 128;                 // 64 queries or keys, 64 channels of bf16
constexpr int kPanels = kLatentWidth / 64;
constexpr int kHalfPanels = kLatent / 64 / 2;  // of the values' channels
constexpr int kRotatedPanel = kPanels - 1;
constexpr int kQuantBlocks = kLatent / kQuantBlock;
constexpr int kCodesRowBytes = LatentRowBytes(CacheFormat::kFp8, kLatent, kRotated);

// 64 heads of a row.
struct Tile {
  int32_t row = -1;  // -1: no tile is left
  int32_t head_group = 0;
  int32_t keys = 0;
};

// Panels are as TileDescriptor wants them: a row of 128 bytes for each query or key, its 16-byte pieces
// swizzled.

// Byte of a panel where a row's piece of 16 bytes lies.
__device__ inline int PlaceInPanel(int row, int piece) { return row * 128 + (piece ^ (row & 7)) * 16; }

// The same piece's place `rows` below one in a row that is a multiple of 8.
__device__ inline int PlaceBelow(int place, int rows) { return (place ^ (rows % 8 * 16)) + rows * 128; }

// The value, of which the compiler knows nothing: what is computed from it is computed where it is used,
// rather than once before a loop and kept in registers that there are not.
__device__ inline int Opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Which 16 of a block's keys a warp brings, of a warpgroup's four.
__device__ inline int GatherWarp() { return static_cast<int>(threadIdx.x / 32 % kGatherWarps); }

// How many of the entries are positions, which are in front; one thread's work, 8 probes at a time.
__device__ inline int32_t CountKeys(const int32_t* selection, int32_t top_k) {
  constexpr int kProbes = 8;
  int32_t found = 0;  // entries before this one are positions
  for (int32_t left = top_k; left > 0;) {
    const int32_t step = (left + kProbes - 1) / kProbes;
    int32_t entry[kProbes];
#pragma unroll
    for (int i = 0; i < kProbes; ++i) {
      entry[i] = __ldg(selection + min(found + (i + 1) * step, top_k) - 1);
    }
    int32_t present = 0;
#pragma unroll
    for (int i = 0; i < kProbes; ++i) {
      present += static_cast<int32_t>(found + (i + 1) * step <= top_k && entry[i] >= 0);
    }
    found += present * step;
    left = min(step - 1, top_k - found);
  }
  return found;
}

// 64 heads of a row, zeros for those that there are not; 128 bytes of four heads at once, 8 lanes for each.
// The work of the block's first kWarps warps.
template <int kWarps>
__device__ void BringQueries(const SparseAttention& work, const Tile& tile, uint8_t (*panels)[kPanelBytes],
                             uint64_t* full) {
  constexpr int kCopyHeads = 4;
  constexpr int kCopies = static_cast<int>(kTileHeads) / kWarps / kCopyHeads;
  static_assert(kCopies * kCopyHeads % 8 == 0);  // for PlaceBelow
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int query = static_cast<int>(threadIdx.x / 32) * (kCopies * kCopyHeads) + lane / 8;
  const int place = PlaceInPanel(query, lane % 8);
  const auto* q = static_cast<const uint8_t*>(work.q_latent) + 2 * tile.row * work.q_stride + 16 * (lane % 8);
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    const int64_t head = tile.head_group * kTileHeads + query + kCopyHeads * i;
    const bool present = head < work.heads;
    const uint8_t* from = q + (present ? head * (2 * kLatentWidth) : 0);
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) {
      CopySixteen(from + 128 * panel, panels[panel] + PlaceBelow(place, kCopyHeads * i), present);
    }
  }
  ArriveAfterCopies(full);
}

// Which rows of the cache hold a warp's keys, a lane for each (twice): the position of a block's key is read
// two blocks ahead, its page one.
class KeyRows {
 public:
  // Of every `step`th block, from block `first`.
  __device__ KeyRows(const SparseAttention& work, const Tile& tile, int first = 0, int step = 1)
      : selection_(work.selection + tile.row * work.selection_stride),
        pages_(work.page_tables + work.sequences[tile.row] * work.table_stride),
        keys_(tile.keys),
        ordinal_(first * kBlockKeys + GatherWarp() * kWarpKeys + static_cast<int>(threadIdx.x % kWarpKeys)),
        step_(step * kBlockKeys) {
    // Both positions before the first page: waits for memory follow one another otherwise.
    ReadPosition();
    const int32_t now = position_;
    ReadPosition();
    const int32_t next = position_;
    position_ = now;
    ReadPage();
    position_ = next;
  }
  // Of the next block: the row of the lane's key, -1 behind the last.
  __device__ int32_t Next() {
    const int32_t row = in_page_ < 0 ? -1 : page_ * static_cast<int32_t>(kPageTokens) + in_page_;
    ReadPage();
    ReadPosition();
    return row;
  }

 private:
  __device__ void ReadPosition() {
    position_ = ordinal_ < keys_ ? __ldg(selection_ + ordinal_) : -1;
    ordinal_ += step_;
  }
  __device__ void ReadPage() {
    in_page_ = -1;
    if (position_ < 0) return;
    page_ = __ldg(pages_ + position_ / static_cast<int32_t>(kPageTokens));
    in_page_ = position_ % static_cast<int32_t>(kPageTokens);
  }

  const int32_t* selection_;
  const int32_t* pages_;
  int32_t keys_;
  int32_t ordinal_;
  int32_t step_;
  int32_t position_ = -1;
  int32_t page_ = 0;
  int32_t in_page_ = -1;
};

}  // namespace sluice::ops::cuda
