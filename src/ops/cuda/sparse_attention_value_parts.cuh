#pragma once

#include <cstdint>

#include "ops/cuda/latent_gather.cuh"
#include "ops/cuda/sparse_attention_few.cuh"

// How the blocks of threads that make values of few rows (sparse_attention_values.cu) share their threads,
// registers and shared memory.
namespace sluice::ops::cuda {

// One of kParts that share the channels of 64 heads.
template <bool kFp8, int kParts>
struct Split {
  static constexpr int kChannels = static_cast<int>(kLatent) / kParts;
  static constexpr int kValuePanels = kChannels / 64;
  static constexpr int kCodePanels = kValuePanels == 1 ? 1 : kValuePanels / 2;
  static constexpr int kScales = kChannels <= kQuantBlock ? 1 : kChannels / kQuantBlock;

  // Warpgroups: gathering ones, which take the blocks of keys in turn, those that multiply, which share the
  // channels, and such that make weights, which take the blocks of keys in turn. Without the last a warp
  // brings them, and another announces blocks to those that multiply (Announce).
  static constexpr int kGatherGroups = kParts == 8 ? 4 : 2;
  static constexpr int kMathGroups = kValuePanels == 1 ? 1 : 2;
  static constexpr int kWeighGroups = !ValuesMakeWeights(kParts) ? 0 : kParts == 4 ? 2 : 1;
  static constexpr int kOwnBlocks = kMostBlocks / kGatherGroups;
  static constexpr int kMathPanels = kValuePanels / kMathGroups;
  static constexpr int kMathThreads = 128 * kMathGroups;
  static constexpr bool kAnnounces = kWeighGroups == 0;
  static constexpr int kThreads =
      kGatherThreads * kGatherGroups + kMathThreads + (kAnnounces ? 2 * 32 : 128 * kWeighGroups);

  // Where weights are made. Those who make them have so many blocks' scores in registers.
  static constexpr int kScoresAhead = kParts == 2 ? 3 : 2;
  static constexpr int kCompiledRegisters = 65536 / kThreads / 8 * 8;
  static constexpr int kGatherRegisters = kParts == 2 ? 80 : 64;
  static constexpr int kMathRegisters = kParts == 2 ? 96 : 64;
  static constexpr int kWeighRegisters = kParts == 2 ? 128 : 104;
  static_assert(kWeighGroups == 0 || kGatherGroups * kGatherRegisters + kMathGroups * kMathRegisters +
                                             kWeighGroups * kWeighRegisters <=
                                         kThreads / 128 * kCompiledRegisters);

  // A stage is a block's weights and values. From FP8 a gathering warpgroup has so many blocks under way as
  // codes, each in a slot of its own: what is on its way does not wait for the math.
  static constexpr int kStagePanels = 1 + kValuePanels;
  static constexpr int kStages = !kFp8 ? 25 / kStagePanels : kParts == 8 ? 9 : kParts == 4 ? 6 : 3;
  static constexpr int kAhead = !kFp8 ? 1 : kParts == 2 ? 2 : 4;
  static constexpr int kSlots = kFp8 ? kGatherGroups * kAhead : 1;
  // A block's 64 channels are half a panel.
  static constexpr int kSlotPanels = !kFp8 ? 1 : kValuePanels == 1 ? kSlots / 2 : kSlots * kCodePanels;
};

template <bool kFp8, int kParts>
struct ValueShared {
  using Split = Split<kFp8, kParts>;
  // Of a block of keys: weights, then values.
  alignas(1024) uint8_t panels[Split::kStages][Split::kStagePanels][kPanelBytes];
  uint8_t codes[Split::kSlotPanels][kPanelBytes];
  struct Softmax {
    float sums[kTileHeads];
    float rescale[kTileHeads];
  };
  Softmax softmax[Split::kStages];
  // Where blocks are announced: whether one of softmax.rescale is not 1, and the sums over all blocks.
  int32_t rescaled[Split::kStages];
  float sums[kTileHeads];
  float scales[Split::kSlots][kBlockKeys][Split::kScales];  // of codes
  int32_t rows[Split::kGatherGroups * kGatherWarps]
              [Split::kOwnBlocks * kWarpKeys];  // of the cache, a warp's own
  uint64_t full[Split::kStages];
  uint64_t announced[Split::kStages];
  uint64_t empty[Split::kStages];

  __device__ uint8_t (*CodesOf(int slot))[kPanelBytes] {
    return codes + (Split::kValuePanels == 1 ? slot / 2 : slot * Split::kCodePanels);
  }
  // Where in the rows of its panels a slot's codes begin.
  __device__ static int BesideOf(int slot) { return Split::kValuePanels == 1 ? slot % 2 * 64 : 0; }
};

// Where in the ring a block is.
template <int kStages>
struct Stage {
  int slot;
  uint32_t parity;
  __device__ explicit Stage(int block)
      : slot(block % kStages), parity(static_cast<uint32_t>(block / kStages) & 1U) {}
};

}  // namespace sluice::ops::cuda
