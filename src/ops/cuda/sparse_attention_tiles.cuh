#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_launch.h"

// What the math of sparse_attention.cu works on, and the warpgroup that brings it: tiles are drawn from the
// counter, their queries and selected keys gathered into shared memory, dequantised on the way.
namespace sluice::ops::cuda {

constexpr int kBlockKeys = 64;
constexpr int kBlockSlots = 2;
constexpr int kTileSlots = 2;
constexpr int kGatherThreads = 128;
constexpr int kGatherWarps = kGatherThreads / 32;
constexpr int kWarpKeys = kBlockKeys / kGatherWarps;  // of a block, gathered by one warp
constexpr int kPanelBytes = 64 * 128;                 // 64 queries or keys, 64 channels of bf16
constexpr int kPanels = kLatentWidth / 64;
constexpr int kHalfPanels = kLatent / 64 / 2;  // of the values' channels
constexpr int kRotatedPanel = kPanels - 1;
constexpr int kCodeScales = kLatent / kQuantBlock;
constexpr int kCodesRowBytes = LatentRowBytes(CacheFormat::kFp8, kLatent, kRotated);

// Partitions [first, end) of a row's keys for 64 of its heads.
struct Tile {
  int32_t row = -1;  // -1: no tile is left
  int32_t head_group = 0;
  int32_t keys = 0;  // of the row
  int32_t first_partition = 0;
  int32_t end_partition = 0;
};

struct Shared {
  // Panels are as TileDescriptor wants them: a row of 128 bytes for each query or key, its 16-byte pieces
  // swizzled.
  alignas(1024) uint8_t queries[kPanels][kPanelBytes];
  // Once a block's scores are there, its softmax weights [head, key] take the place of the rotated channels.
  alignas(1024) uint8_t keys[kBlockSlots][kPanels][kPanelBytes];
  // After a block, by head: the largest exponent, the sum, and what the block before is multiplied with.
  float largest[kBlockSlots][kTileHeads];
  float sum[kBlockSlots][kTileHeads];
  float rescale[kBlockSlots][kTileHeads];
  int32_t cache_rows[kGatherWarps][kPartition / kGatherWarps];
  uint64_t queries_full;
  uint64_t queries_empty;
  // The first 256 channels, and the others: each warpgroup of the math multiplies the values of one.
  uint64_t keys_full[kBlockSlots][2];
  uint64_t keys_empty[kBlockSlots][2];
  uint64_t weights_full[kBlockSlots];
  uint64_t tile_full[kTileSlots];
  uint64_t tile_empty[kTileSlots];
  Tile tile[kTileSlots];
  int32_t arrived;
};

// Byte of a panel where a row's piece of 16 bytes lies.
__device__ inline int PlaceInPanel(int row, int piece) { return row * 128 + (piece ^ (row & 7)) * 16; }

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

// A warp's work.
__device__ inline Tile DrawTile(const LaunchedAttention& launched) {
  const SparseAttention& work = launched.work;
  const int32_t tiles_of_item = launched.split ? launched.partitions : 1;
  while (true) {
    int32_t number = threadIdx.x % 32 == 0 ? atomicAdd(launched.tiles, 1) : 0;
    number = __shfl_sync(~0U, number, 0);
    const int32_t item = number / tiles_of_item;
    const int32_t row = item / launched.head_groups;
    if (row >= work.rows) return {};
    const int32_t keys =
        CountKeys(work.selection + row * work.selection_stride, static_cast<int32_t>(work.top_k));
    const auto partitions = static_cast<int32_t>((keys + kPartition - 1) / kPartition);
    Tile tile{row, item % launched.head_groups, keys, 0, partitions};
    if (launched.split) {
      tile.first_partition = number % tiles_of_item;
      if (tile.first_partition > 0 && tile.first_partition >= partitions) continue;
      tile.end_partition = min(tile.first_partition + 1, partitions);
    }
    return tile;
  }
}

__device__ inline void BringQueries(const SparseAttention& work, const Tile& tile, Shared& shared) {
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const auto* q = static_cast<const __nv_bfloat16*>(work.q_latent) + tile.row * work.q_stride;
  for (int i = 0; i < kTileHeads / kGatherWarps; ++i) {
    const int query = i * kGatherWarps + warp;
    const int64_t head = tile.head_group * kTileHeads + query;
    const bool present = head < work.heads;
    const auto* from = reinterpret_cast<const uint8_t*>(q + (present ? head * kLatentWidth : 0));
    for (int piece = lane; piece < kPanels * 8; piece += 32) {
      CopySixteen(from + 16 * piece, shared.queries[piece / 8] + PlaceInPanel(query, piece % 8), present);
    }
  }
  ArriveAfterCopies(&shared.queries_full);
}

// Which rows of the cache hold this warp's keys of each block of the partition; -1 behind the last.
__device__ inline void FindKeys(const SparseAttention& work, const Tile& tile, int32_t partition,
                                int32_t* cache_rows) {
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int32_t* selection = work.selection + tile.row * work.selection_stride;
  const int32_t* pages = work.page_tables + work.sequences[tile.row] * work.table_stride;
  __syncwarp();
  for (int i = static_cast<int>(threadIdx.x % 32); i < kPartition / kGatherWarps; i += 32) {
    const auto ordinal = static_cast<int32_t>(partition * kPartition + i / kWarpKeys * kBlockKeys +
                                              warp * kWarpKeys + i % kWarpKeys);
    int32_t cache_row = -1;
    if (ordinal < tile.keys) {
      const auto position = static_cast<uint32_t>(selection[ordinal]);
      cache_row = static_cast<int32_t>(pages[position / kPageTokens] * kPageTokens + position % kPageTokens);
    }
    cache_rows[i] = cache_row;
  }
  __syncwarp();
}

// This warp's 16 keys: 64 rotated channels of each, bf16 in both formats.
__device__ inline void BringRotated(const SparseAttention& work, int64_t row_bytes, const int32_t* cache_rows,
                                    uint8_t* panel) {
  constexpr int kCopyKeys = 4;  // of a warp at once: 8 lanes for each
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  int32_t rows[kWarpKeys / kCopyKeys];
#pragma unroll
  for (int i = 0; i < kWarpKeys / kCopyKeys; ++i) rows[i] = cache_rows[kCopyKeys * i + lane / 8];
#pragma unroll
  for (int i = 0; i < kWarpKeys / kCopyKeys; ++i) {
    const int key = warp * kWarpKeys + kCopyKeys * i + lane / 8;
    const uint8_t* from =
        static_cast<const uint8_t*>(work.latents) + (max(rows[i], 0) + 1) * row_bytes - 2 * kRotated;
    CopySixteen(from + 16 * (lane % 8), panel + PlaceInPanel(key, lane % 8), rows[i] >= 0);
  }
}

// Two codes times their scale: exact in bf16, the scale being a power of two.
__device__ inline uint32_t Dequantize(uint32_t codes, float scale) {
  const __half2_raw halves =
      __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(codes & 0xffffU), __NV_E4M3);
  const float2 values = __half22float2(__half2(halves));
  const __nv_bfloat162 rounded =
      __floats2bfloat162_rn(__fmul_rn(values.x, scale), __fmul_rn(values.y, scale));
  return reinterpret_cast<const uint32_t&>(rounded);
}

// 16 codes as two pieces of a panel, the second first if `swapped`.
__device__ inline void StoreValues(const uint4& codes, float scale, int key, int piece, int swapped,
                                   uint8_t* panel) {
  const uint4 first = {Dequantize(codes.x, scale), Dequantize(codes.x >> 16, scale),
                       Dequantize(codes.y, scale), Dequantize(codes.y >> 16, scale)};
  const uint4 second = {Dequantize(codes.z, scale), Dequantize(codes.z >> 16, scale),
                        Dequantize(codes.w, scale), Dequantize(codes.w >> 16, scale)};
  *reinterpret_cast<uint4*>(panel + PlaceInPanel(key, piece + swapped)) = swapped != 0 ? second : first;
  *reinterpret_cast<uint4*>(panel + PlaceInPanel(key, piece + 1 - swapped)) = swapped != 0 ? first : second;
}

// 256 channels of this warp's 16 keys, behind the last of which come zeros; with the second half also the
// rotated channels. The first half's loads are under way while the slot is still in use.
__device__ inline void BringHalf(const SparseAttention& work, const int32_t* cache_rows, int half, int slot,
                                 uint32_t parity, Shared& shared) {
  constexpr int kLoadKeys = 2;  // of a warp at once: 16 lanes for each
  constexpr int kLoads = kWarpKeys / kLoadKeys;
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int piece = lane % 16;  // of 16 codes
  if (half == 1) {
    Wait(&shared.keys_empty[slot][half], parity ^ 1);
    BringRotated(work, kCodesRowBytes, cache_rows, shared.keys[slot][kRotatedPanel]);
  }
  uint4 codes[kLoads];
  float scales[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int32_t cache_row = cache_rows[kLoadKeys * i + lane / 16];
    codes[i] = {0, 0, 0, 0};
    scales[i] = 0.0F;
    if (cache_row < 0) continue;
    const uint8_t* row =
        static_cast<const uint8_t*>(work.latents) + static_cast<int64_t>(cache_row) * kCodesRowBytes;
    codes[i] = __ldg(reinterpret_cast<const uint4*>(row + half * (kLatent / 2)) + piece);
    scales[i] = __ldg(reinterpret_cast<const float*>(row + kLatent) + half * (kCodeScales / 2) + piece / 8);
  }
  if (half == 0) Wait(&shared.keys_empty[slot][half], parity ^ 1);
  uint8_t* panel = shared.keys[slot][half * kHalfPanels + piece / 4];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const int key = warp * kWarpKeys + kLoadKeys * i + lane / 16;
    // Lanes of neighbouring panels begin with different pieces, so that eight lanes meet all banks.
    StoreValues(codes[i], scales[i], key, piece % 4 * 2, piece / 4 % 2, panel);
  }
  if (half == 1) WaitForCopies();
  Arrive(&shared.keys_full[slot][half]);
}

// The keys of a partition from an FP8 cache, block by block and half by half.
__device__ inline void BringCodes(const SparseAttention& work, const int32_t* cache_rows, int32_t keys,
                                  Ring<kBlockSlots>& block, Shared& shared) {
  for (int32_t first = 0; first < keys; first += kBlockKeys) {
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      BringHalf(work, cache_rows, half, block.slot, block.parity, shared);
    }
    cache_rows += kWarpKeys;
    block.Next();
  }
}

// The same from a bf16 cache.
__device__ inline void BringValues(const SparseAttention& work, const int32_t* cache_rows, int32_t keys,
                                   Ring<kBlockSlots>& block, Shared& shared) {
  constexpr int64_t kRowBytes = 2 * kLatentWidth;
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int32_t first = 0; first < keys; first += kBlockKeys) {
    int32_t rows[kWarpKeys];  // read before the copies, which they could not overtake
#pragma unroll
    for (int i = 0; i < kWarpKeys; ++i) rows[i] = cache_rows[i];
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      Wait(&shared.keys_empty[block.slot][half], block.parity ^ 1);
      uint8_t* panel = shared.keys[block.slot][half * kHalfPanels + lane / 8];
      const uint8_t* from = static_cast<const uint8_t*>(work.latents) + half * kLatent + 16 * lane;
#pragma unroll
      for (int i = 0; i < kWarpKeys; ++i) {
        CopySixteen(from + max(rows[i], 0) * kRowBytes, panel + PlaceInPanel(warp * kWarpKeys + i, lane % 8),
                    rows[i] >= 0);
      }
      if (half == 1) BringRotated(work, kRowBytes, cache_rows, shared.keys[block.slot][kRotatedPanel]);
      ArriveAfterCopies(&shared.keys_full[block.slot][half]);
    }
    cache_rows += kWarpKeys;
    block.Next();
  }
}

template <bool kFp8>
__device__ void BringTiles(const LaunchedAttention& launched, Shared& shared) {
  const SparseAttention& work = launched.work;
  const int warp = static_cast<int>(threadIdx.x / 32);
  const bool first_of_warp = threadIdx.x % 32 == 0;
  int32_t* cache_rows = shared.cache_rows[warp];
  Ring<kTileSlots> tile_slot;
  Ring<kBlockSlots> block;
  uint32_t queries_parity = 0;
  while (true) {
    if (warp == 0) {
      const Tile drawn = DrawTile(launched);
      if (first_of_warp) {
        Wait(&shared.tile_empty[tile_slot.slot], tile_slot.parity ^ 1);
        shared.tile[tile_slot.slot] = drawn;
        Arrive(&shared.tile_full[tile_slot.slot]);
      }
    }
    Wait(&shared.tile_full[tile_slot.slot], tile_slot.parity);
    const Tile tile = shared.tile[tile_slot.slot];
    __syncwarp();
    if (first_of_warp) Arrive(&shared.tile_empty[tile_slot.slot]);
    tile_slot.Next();
    if (tile.row < 0) return;
    if (tile.keys == 0) continue;
    Wait(&shared.queries_empty, queries_parity ^ 1);
    queries_parity ^= 1;
    BringQueries(work, tile, shared);
    for (int32_t partition = tile.first_partition; partition < tile.end_partition; ++partition) {
      FindKeys(work, tile, partition, cache_rows);
      const auto keys = static_cast<int32_t>(min(kPartition, tile.keys - partition * kPartition));
      if constexpr (kFp8) {
        BringCodes(work, cache_rows, keys, block, shared);
      } else {
        BringValues(work, cache_rows, keys, block, shared);
      }
    }
  }
}

}  // namespace sluice::ops::cuda
