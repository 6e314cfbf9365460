#pragma once

#include <cuda_bf16.h>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_launch.h"

// How warpgroups bring queries and selected keys of sparse attention into shared memory, dequantised on the
// way.
namespace sluice::ops::cuda {

constexpr int kBlockKeys = 64;
constexpr int kBlockSlots = 2;
constexpr int kGatherThreads = 128;
constexpr int kGatherWarps = kGatherThreads / 32;
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

// How many of the entries are positions; a warp's work, 32 probes at a time.
__device__ inline int32_t CountKeys(const int32_t* selection, int32_t top_k) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int32_t found = 0;  // entries before this one are positions
  for (int32_t left = top_k; left > 0;) {
    const int32_t step = (left + 31) / 32;
    const int32_t probe = found + (lane + 1) * step - 1;
    const bool present = probe < top_k && selection[probe] >= 0;
    found += __popc(__ballot_sync(~0U, present)) * step;
    left = min(step - 1, top_k - found);
  }
  return found;
}

// 64 heads of a row, zeros for those that there are not. The work of the block's first kWarps warps.
template <int kWarps>
__device__ void BringQueries(const SparseAttention& work, const Tile& tile, uint8_t (*panels)[kPanelBytes],
                             uint64_t* full) {
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const auto* q = static_cast<const __nv_bfloat16*>(work.q_latent) + tile.row * work.q_stride;
#pragma unroll 1
  for (int i = 0; i < kTileHeads / kWarps; ++i) {
    const int query = i * kWarps + warp;
    const int64_t head = tile.head_group * kTileHeads + query;
    const bool present = head < work.heads;
    const auto* from = reinterpret_cast<const uint8_t*>(q + (present ? head * kLatentWidth : 0));
    for (int piece = lane; piece < kPanels * 8; piece += 32) {
      CopySixteen(from + 16 * piece, panels[piece / 8] + PlaceInPanel(query, piece % 8), present);
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
    ReadPosition();
    ReadPage();
    ReadPosition();
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

// This warp's 16 keys, `row` of each in its lane: 64 rotated channels, bf16 in both formats.
__device__ inline void BringRotated(const SparseAttention& work, int64_t row_bytes, int32_t row,
                                    uint8_t* panel) {
  constexpr int kCopyKeys = 4;  // of a warp at once: 8 lanes for each
  const int warp = GatherWarp();
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int i = 0; i < kWarpKeys / kCopyKeys; ++i) {
    const int32_t cache_row = __shfl_sync(~0U, row, kCopyKeys * i + lane / 8);
    const int key = warp * kWarpKeys + kCopyKeys * i + lane / 8;
    const uint8_t* from =
        static_cast<const uint8_t*>(work.latents) + (max(cache_row, 0) + 1) * row_bytes - 2 * kRotated;
    CopySixteen(from + 16 * (lane % 8), panel + PlaceInPanel(key, lane % 8), cache_row >= 0);
  }
}

// Two codes, in the bytes that `pick` takes from them, as bf16, and times a power of two: exact. A code's
// bits in the places of bf16's give its value times 2^-120.
__device__ inline uint32_t Dequantize(uint32_t codes, uint32_t pick, __nv_bfloat162 scale) {
  const uint32_t high = __byte_perm(codes, 0, pick);
  const uint32_t bits = (high & 0x80008000U) | (high >> 4 & 0x07f007f0U);
  const __nv_bfloat162 half = __float2bfloat162_rn(0x1p60F);
  const __nv_bfloat162 value = __hmul2(__hmul2(reinterpret_cast<const __nv_bfloat162&>(bits), half), scale);
  return reinterpret_cast<const uint32_t&>(value);
}
__device__ inline uint4 DequantizeEight(uint32_t first, uint32_t second, __nv_bfloat162 scale) {
  constexpr uint32_t kLow = 0x1404, kHigh = 0x3424;
  return {Dequantize(first, kLow, scale), Dequantize(first, kHigh, scale), Dequantize(second, kLow, scale),
          Dequantize(second, kHigh, scale)};
}

// A warp's 16 keys, in rows `warp` * 16 and on of kWide panels of 64 channels, from their codes, of which a
// row of a raw panel has 128; kWide 1: 64. A raw panel may be one of the panels. scale_of(key, piece): of 16
// codes.
template <int kWide, class ScaleOf>
__device__ void DequantizePanels(const uint8_t (*raw)[kPanelBytes], uint8_t (*panels)[kPanelBytes],
                                 ScaleOf&& scale_of) {
  constexpr int kLanes = 4 * kWide;  // for one key
  constexpr int kLoadKeys = 32 / kLanes;
  constexpr int kLoads = kWarpKeys / kLoadKeys;
  const int warp = GatherWarp();
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int piece = lane % kLanes;
  const int first_key = warp * kWarpKeys + lane / kLanes;
  // The place of key first_key + kLoadKeys i, from that of first_key: the bits of the two do not meet.
  const auto place_of = [](uint32_t first, int i) {
    return (first ^ (kLoadKeys * i % 8 * 16)) + kLoadKeys * 128 * i;
  };
  uint4 codes[kLoads];
  float scales[kLoads];
  const uint32_t from = SharedAddress(raw[piece / 8]) + PlaceInPanel(first_key, piece % 8);
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    codes[i] = LoadSixteen(place_of(from, i));
    scales[i] = scale_of(first_key + kLoadKeys * i, piece);
  }
  __syncwarp();  // all have read what some write over
  // Lanes of neighbouring panels begin with different pieces, so that eight lanes meet all banks.
  const int swapped = piece / 4 % 2;
  const uint32_t to = SharedAddress(panels[piece / 4]) + PlaceInPanel(first_key, piece % 4 * 2 + swapped);
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const __nv_bfloat162 factor = __float2bfloat162_rn(__fmul_rn(scales[i], 0x1p60F));
    const uint4 first = DequantizeEight(codes[i].x, codes[i].y, factor);
    const uint4 second = DequantizeEight(codes[i].z, codes[i].w, factor);
    StoreSixteen(place_of(to, i), swapped != 0 ? second : first);
    StoreSixteen(place_of(to, i) ^ 16, swapped != 0 ? first : second);
  }
}

// A warp's 16 keys, `row` of each in its lane, from a bf16 cache: the values' channels of one half, with the
// second the rotated ones.
__device__ inline void CopyValues(const SparseAttention& work, int32_t row, int half,
                                  uint8_t (*panels)[kPanelBytes]) {
  constexpr int64_t kRowBytes = 2 * kLatentWidth;
  const int warp = GatherWarp();
  const int lane = static_cast<int>(threadIdx.x % 32);
  uint8_t* panel = panels[half * kHalfPanels + lane / 8];
  const int place = Opaque(PlaceInPanel(warp * kWarpKeys, lane % 8));
  const uint8_t* from = static_cast<const uint8_t*>(work.latents) + half * kLatent + 16 * lane;
#pragma unroll
  for (int key = 0; key < kWarpKeys; ++key) {
    const int32_t cache_row = __shfl_sync(~0U, row, key);
    CopySixteen(from + max(cache_row, 0) * kRowBytes, panel + PlaceBelow(place, key), cache_row >= 0);
  }
  if (half == 1) BringRotated(work, kRowBytes, row, panels[kRotatedPanel]);
}

// The same from an FP8 cache. Codes go into the warp's rows of the second half's panels, 128 channels in
// each, and are dequantised from there (DequantizeQuarter): nothing waits in registers.
__device__ inline void CopyCodes(const SparseAttention& work, int32_t row, uint8_t (*panels)[kPanelBytes],
                                 float (*scales)[kQuantBlocks]) {
  const int warp = GatherWarp();
  const int lane = static_cast<int>(threadIdx.x % 32);
  const uint8_t* from = static_cast<const uint8_t*>(work.latents) + 16 * lane;
  uint8_t* raw = panels[kHalfPanels + lane / 8];
  const int place = Opaque(PlaceInPanel(warp * kWarpKeys, lane % 8));
#pragma unroll
  for (int key = 0; key < kWarpKeys; ++key) {
    const int32_t cache_row = __shfl_sync(~0U, row, key);
    CopySixteen(from + int64_t{max(cache_row, 0)} * kCodesRowBytes, raw + PlaceBelow(place, key),
                cache_row >= 0);
  }
  if (lane < kWarpKeys) {
    CopySixteen(static_cast<const uint8_t*>(work.latents) + int64_t{max(row, 0)} * kCodesRowBytes + kLatent,
                scales[warp * kWarpKeys + lane], row >= 0);
  }
  BringRotated(work, kCodesRowBytes, row, panels[kRotatedPanel]);
}

// Quarters in turn, once a warp's codes are there: the last lies where it is dequantised to.
__device__ inline void DequantizeQuarter(int quarter, uint8_t (*panels)[kPanelBytes],
                                         const float (*scales)[kQuantBlocks]) {
  DequantizePanels<2>(panels + kHalfPanels + quarter, panels + 2 * quarter,
                      [&](int key, int) { return scales[key][quarter]; });
}

}  // namespace sluice::ops::cuda
