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

// The next tile, drawn while this one is being worked on: a step for each block of keys that the warp has to
// do with, so that no step waits for the memory of the one before. A warp's work.
class TileDraw {
 public:
  __device__ TileDraw(const LaunchedAttention& launched, Shared& shared)
      : launched_(launched), shared_(shared) {}

  __device__ void Step() {
    const SparseAttention& work = launched_.work;
    if (step_ == 0) {
      if (threadIdx.x % 32 == 0) number_ = atomicAdd(launched_.tiles, 1);
    } else if (step_ == 1) {
      number_ = __shfl_sync(~0U, number_, 0);
      row_ = number_ / launched_.head_groups;
      if (row_ < work.rows) last_ = __ldg(Selection() + work.top_k - 1);
    } else if (step_ == 2) {
      Publish();
    }
    ++step_;
  }
  __device__ void Complete() {
    while (step_ < 3) Step();
    step_ = 0;
  }

 private:
  __device__ const int32_t* Selection() const {
    return launched_.work.selection + row_ * launched_.work.selection_stride;
  }
  __device__ void Publish() {
    Tile tile;
    if (row_ < launched_.work.rows) {
      const auto top_k = static_cast<int32_t>(launched_.work.top_k);
      tile = {row_, number_ % launched_.head_groups, last_ >= 0 ? top_k : CountKeys(Selection(), top_k)};
    }
    if (threadIdx.x % 32 == 0) {
      Wait(&shared_.tile_empty[slot_.slot], slot_.parity ^ 1);
      shared_.tile[slot_.slot] = tile;
      Arrive(&shared_.tile_full[slot_.slot]);
    }
    __syncwarp();
    slot_.Next();
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
