#pragma once

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/latent_gather.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_launch.h"

// What the warpgroups of sparse_attention.cu share, and the warp that draws tiles for all of them.
namespace sluice::ops::cuda {

constexpr int kTileSlots = 2;

struct Shared {
  alignas(1024) uint8_t queries[kPanels][kPanelBytes];
  // A block's keys. Once its scores are there, its softmax weights [head, key] take the place of the rotated
  // channels.
  uint8_t keys[kBlockSlots][kPanels][kPanelBytes];
  alignas(16) float scales[kBlockSlots][kBlockKeys][kQuantBlocks];  // of the codes
  float reference[kBlockSlots][kTileHeads];                         // what the weights are relative to
  float rescale[kBlockSlots][kTileHeads];  // what the blocks before are multiplied with
  float sums[kBlockSlots][kTileHeads];     // of the weights
  uint64_t queries_full;
  uint64_t queries_empty;
  uint64_t keys_empty[kBlockSlots][2];  // the first 256 channels, and the others
  uint64_t reference_full[kBlockSlots];
  uint64_t weights_full[kBlockSlots];
  uint64_t tile_full[kTileSlots];
  uint64_t tile_empty[kTileSlots];
  Tile tile[kTileSlots];
};

// A number that no other thread draws. What comes back is waited for where it is used; of atomicAdd the
// compiler makes one addition for all lanes that are there, and waits to hand it out.
__device__ inline int32_t DrawNumber(int32_t* next) {
  int32_t number;
  asm volatile("atom.relaxed.gpu.global.add.s32 %0, [%1], 1;" : "=r"(number) : "l"(next) : "memory");
  return number;
}

// The next tile, drawn while this one is being worked on: a step for each block of keys that the slot has to
// do with, so that no step waits for the memory of the one before. The block's first thread does it, and
// neither exchanges values with its warp nor waits for a barrier: of lanes that do such things alone the
// compiler doubts, in all that the kernel does besides, that they run together with the others.
class TileDraw {
 public:
  __device__ TileDraw(const LaunchedAttention& launched, Shared& shared)
      : launched_(launched), shared_(shared) {}

  // Before a tile's first step: until there is room for the next, that is, until all warps have taken the one
  // before this. All threads of the slot wait.
  __device__ void AwaitRoom() { Wait(&shared_.tile_empty[slot_.slot], slot_.parity ^ 1); }
  __device__ void Step() {
    if (threadIdx.x == 0 && step_ <= kPublish) Advance();
  }
  // The rest of the steps.
  __device__ void Complete() {
    AwaitRoom();
    if (threadIdx.x == 0) {
      while (step_ <= kPublish) Advance();
    }
    step_ = 0;
    slot_.Next();
  }

 private:
  static constexpr int kPublish = 2;

  __device__ void Advance() {
    const SparseAttention& work = launched_.work;
    if (step_ == 0) {
      number_ = DrawNumber(launched_.tiles);
    } else if (step_ == 1) {
      row_ = number_ / launched_.head_groups;
      if (row_ < work.rows) last_ = __ldg(Selection() + work.top_k - 1);
    } else if (step_ == kPublish) {
      Publish();
    }
    ++step_;
  }
  __device__ const int32_t* Selection() const {
    return launched_.work.selection + row_ * launched_.work.selection_stride;
  }
  __device__ void Publish() {
    Tile tile;
    if (row_ < launched_.work.rows) {
      const auto top_k = static_cast<int32_t>(launched_.work.top_k);
      tile = {row_, number_ % launched_.head_groups, last_ >= 0 ? top_k : CountKeys(Selection(), top_k)};
    }
    shared_.tile[slot_.slot] = tile;
    Arrive(&shared_.tile_full[slot_.slot]);
  }

  const LaunchedAttention& launched_;
  Shared& shared_;
  Ring<kTileSlots> slot_;
  int step_ = 0;
  int32_t number_ = 0;
  int32_t row_ = 0;
  int32_t last_ = 0;
};

}  // namespace sluice::ops::cuda
