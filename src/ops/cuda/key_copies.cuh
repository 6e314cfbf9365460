#pragma once

#include <cuda_bf16.h>

#include "ops/cuda/dequantize.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/latent_gather.cuh"

// How warpgroups copy selected keys of sparse attention into shared memory and dequantise them there.
namespace sluice::ops::cuda {

// A warp's 16 keys as it copies them: 128 bytes of four keys at once, 8 lanes for each. So the addresses of
// four copies serve for all, from byte `offset` of a key's row of the cache on. `row` of each key in its
// lane.
class KeyCopies {
 public:
  __device__ KeyCopies(const SparseAttention& work, int64_t row_bytes, int32_t row, int offset = 0) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    place_ = Opaque(PlaceInPanel(GatherWarp() * kWarpKeys + lane / 8, lane % 8));
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int32_t cache_row = __shfl_sync(~0U, row, kCopyKeys * i + lane / 8);
      present_[i] = cache_row >= 0;
      from_[i] = static_cast<const uint8_t*>(work.latents) + max(cache_row, 0) * row_bytes + 16 * (lane % 8) +
                 offset;
      // Else the compiler adds up each copy's address anew, in registers that the copy before has to have
      // read.
      asm volatile("" : "+l"(from_[i]));
    }
  }
  // From `offset` bytes further on to their rows of the panel.
  __device__ void Copy(int offset, uint8_t* panel) const {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      CopySixteen(from_[i] + offset, panel + PlaceBelow(place_, kCopyKeys * i), present_[i]);
    }
  }

 private:
  static constexpr int kCopyKeys = 4;
  static constexpr int kCopies = kWarpKeys / kCopyKeys;
  int place_;
  bool present_[kCopies];
  const uint8_t* from_[kCopies];
};

// The keys, `row` of each in its lane, from a bf16 cache: the values' channels of one half, with the
// second the rotated ones.
__device__ inline void CopyKeyValues(const SparseAttention& work, int32_t row, int half,
                                     uint8_t (*panels)[kPanelBytes]) {
  constexpr int kHalfBytes = 128 * kHalfPanels;
  const KeyCopies keys(work, 2 * kLatentWidth, row, half * kHalfBytes);
#pragma unroll
  for (int i = 0; i < kHalfPanels; ++i) keys.Copy(128 * i, panels[half * kHalfPanels + i]);
  if (half == 1) keys.Copy(kHalfBytes, panels[kRotatedPanel]);
}

// From an FP8 cache: the scales of the keys' codes.
__device__ inline void CopyKeyScales(const SparseAttention& work, int32_t row,
                                     float (*scales)[kQuantBlocks]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (lane < kWarpKeys) {
    CopySixteen(static_cast<const uint8_t*>(work.latents) + int64_t{max(row, 0)} * kCodesRowBytes + kLatent,
                scales[GatherWarp() * kWarpKeys + lane], row >= 0);
  }
}

// Codes, scales and rotated channels from there. Codes go into the warp's rows of the second half's panels,
// 128 channels in each, and are dequantised from there (DequantizeKeyQuarter): nothing waits in registers.
// With a kFirstQuarter above 0 those of the quarters before it and the scales are not brought.
template <int kFirstQuarter>
__device__ void CopyKeyCodes(const SparseAttention& work, int32_t row, uint8_t (*panels)[kPanelBytes],
                             float (*scales)[kQuantBlocks]) {
  const KeyCopies keys(work, kCodesRowBytes, row);
  if constexpr (kFirstQuarter == 0) CopyKeyScales(work, row, scales);
#pragma unroll
  for (int quarter = kFirstQuarter; quarter < kQuantBlocks; ++quarter) {
    keys.Copy(kQuantBlock * quarter, panels[kHalfPanels + quarter]);
  }
  keys.Copy(kCodesRowBytes - 2 * kRotated, panels[kRotatedPanel]);
}

// A warp's 16 keys, in rows `warp` * 16 and on of kWide panels of 64 channels, from their codes, of which a
// row of a raw panel has 128; kWide 1: 64, behind `beside_bytes`, 0 or 64. A raw panel may be one of the
// panels. scale_of(key, piece): of 16 codes.
template <int kWide, class ScaleOf>
__device__ void DequantizeWarpPanels(const uint8_t (*raw)[kPanelBytes], uint8_t (*panels)[kPanelBytes],
                                     ScaleOf&& scale_of, int beside_bytes = 0) {
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
  // Half of the lanes begin with the second half of their 16 codes, those of neighbouring panels or of
  // neighbouring keys, so that loads and stores meet as many banks as they can.
  const int beside = kWide == 1 ? lane / kLanes / 2 : piece / 4 + (kWide == 2 ? lane / kLanes : piece / 8);
  const int swapped = beside % 2;
  uint2 first[kLoads], second[kLoads];
  float scales[kLoads];
  const uint32_t from =
      SharedAddress(raw[piece / 8]) + (PlaceInPanel(first_key, piece % 8) ^ beside_bytes) + 8 * swapped;
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    first[i] = LoadEight(place_of(from, i));
    second[i] = LoadEight(place_of(from ^ 8, i));
    scales[i] = scale_of(first_key + kLoadKeys * i, piece);
  }
  __syncwarp();  // all have read what some write over
  const uint32_t to = SharedAddress(panels[piece / 4]) + PlaceInPanel(first_key, piece % 4 * 2 + swapped);
  // All before the first is stored: a store's registers cannot be written again until it has read them.
  uint4 values[kLoads][2];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const __nv_bfloat162 factor = FactorOf(scales[i]);
    values[i][0] = DequantizeEight(first[i], factor);
    values[i][1] = DequantizeEight(second[i], factor);
  }
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    StoreSixteen(place_of(to, i), values[i][0]);
    StoreSixteen(place_of(to ^ 16, i), values[i][1]);
  }
}

// Quarters in turn, once the warp's codes are there: the last lies where it is dequantised to.
__device__ inline void DequantizeKeyQuarter(int quarter, uint8_t (*panels)[kPanelBytes],
                                            const float (*scales)[kQuantBlocks]) {
  DequantizeWarpPanels<2>(panels + kHalfPanels + quarter, panels + 2 * quarter,
                          [&](int key, int) { return scales[key][quarter]; });
}

// The first half of the channels' codes of a warp's keys, in registers from the cache on: a lane has what it
// would copy, which is what it would load to dequantise. They and the scales, which are a group of copies,
// are brought before there is room for the rest of the block.
class CodesAhead {
 public:
  static constexpr int kQuarters = kQuantBlocks / 2;

  // Under way on return. `row` of each key in its lane.
  __device__ void Bring(const SparseAttention& work, int32_t row, float (*scales)[kQuantBlocks]) {
    CopyKeyScales(work, row, scales);
    EndCopyGroup();
    const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int32_t cache_row = __shfl_sync(~0U, row, kLoadKeys * i + lane / 8);
      const uint8_t* from =
          static_cast<const uint8_t*>(work.latents) + int64_t{max(cache_row, 0)} * kCodesRowBytes;
#pragma unroll
      for (int quarter = 0; quarter < kQuarters; ++quarter) {
        codes_[quarter][i] =
            LoadGlobalSixteen(from + kQuantBlock * quarter + 16 * (lane % 8), cache_row >= 0);
      }
    }
  }
  // Dequantised into two panels of bf16.
  __device__ void Store(int quarter, uint8_t (*panels)[kPanelBytes],
                        const float (*scales)[kQuantBlocks]) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int piece = lane % 8;
    const int first_key = GatherWarp() * kWarpKeys + lane / 8;
    const bool swapped = (piece / 4 + lane / 8) % 2 != 0;  // as in DequantizeWarpPanels
    const uint32_t to =
        SharedAddress(panels[piece / 4]) + PlaceInPanel(first_key, piece % 4 * 2 + (swapped ? 1 : 0));
    uint4 values[kLoads][2];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const __nv_bfloat162 factor = FactorOf(scales[first_key + kLoadKeys * i][quarter]);
      const uint4& codes = codes_[quarter][i];
      const uint2 first = {swapped ? codes.z : codes.x, swapped ? codes.w : codes.y};
      const uint2 second = {swapped ? codes.x : codes.z, swapped ? codes.y : codes.w};
      values[i][0] = DequantizeEight(first, factor);
      values[i][1] = DequantizeEight(second, factor);
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const uint32_t place = (to ^ (kLoadKeys * i % 8 * 16)) + kLoadKeys * 128 * i;
      StoreSixteen(place, values[i][0]);
      StoreSixteen(place ^ 16, values[i][1]);
    }
  }

 private:
  static constexpr int kLoadKeys = 4;
  static constexpr int kLoads = kWarpKeys / kLoadKeys;
  uint4 codes_[kQuarters][kLoads];
};

}  // namespace sluice::ops::cuda
