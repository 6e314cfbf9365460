#pragma once

#include "ops/cuda/attention_math.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/latent_gather.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_launch.h"

// Whole keys on their way from a warpgroup that gathers them to others that score them: slots of 64 keys, a
// ring.
namespace sluice::ops::cuda {

struct KeySlots {
  uint8_t panels[kBlockSlots][kPanels][kPanelBytes];   // at a multiple of 1,024 bytes
  alignas(16) float scales[kBlockKeys][kQuantBlocks];  // of the codes that are being dequantised
  // The first 256 channels, and the others.
  uint64_t full[kBlockSlots][2];
  uint64_t empty[kBlockSlots][2];
};

// A row's keys from an FP8 cache, block by block. The gathering warpgroup's work.
__device__ inline void BringCodes(const SparseAttention& work, KeyRows rows, int blocks,
                                  Ring<kBlockSlots>& block, KeySlots& slots) {
#pragma unroll 1
  for (int i = 0; i < blocks; ++i) {
    uint8_t(*panels)[kPanelBytes] = slots.panels[block.slot];
    const int32_t row = rows.Next();
    Wait(&slots.empty[block.slot][0], block.parity ^ 1);
    Wait(&slots.empty[block.slot][1], block.parity ^ 1);
    CopyCodes(work, row, panels, slots.scales);
    WaitForCopies();
    __syncwarp();
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      DequantizePanels<kHalfPanels>(
          panels + kHalfPanels + 2 * half, panels + half * kHalfPanels,
          [&](int key, int piece) { return slots.scales[key][2 * half + piece / 8]; });
      Arrive(&slots.full[block.slot][half]);
    }
    block.Next();
  }
}

// The same from a bf16 cache.
__device__ inline void BringValues(const SparseAttention& work, KeyRows rows, int blocks,
                                   Ring<kBlockSlots>& block, KeySlots& slots) {
#pragma unroll 1
  for (int i = 0; i < blocks; ++i) {
    const int32_t row = rows.Next();
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      Wait(&slots.empty[block.slot][half], block.parity ^ 1);
      CopyValues(work, row, half, slots.panels[block.slot]);
      ArriveAfterCopies(&slots.full[block.slot][half]);
    }
    block.Next();
  }
}

// s = queries x keys of the block, whose first half may come before the second.
__device__ inline void ScoreBlock(const Ring<kBlockSlots>& block, const uint8_t (*query_panels)[kPanelBytes],
                                  KeySlots& slots, float (&s)[32]) {
  Wait(&slots.full[block.slot][0], block.parity);
  FenceShared();
  Pin(s);
  ScorePanels<0, kHalfPanels>(query_panels, slots.panels[block.slot], s);
  Wait(&slots.full[block.slot][1], block.parity);
  FenceShared();
  ScorePanels<kHalfPanels, kPanels>(query_panels, slots.panels[block.slot], s);
  WgmmaWait<0>();
  Pin(s);
}

}  // namespace sluice::ops::cuda
