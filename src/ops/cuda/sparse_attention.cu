#include <cuda_bf16.h>

#include <cmath>

#include "ops/cuda/attention_math.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/key_copies.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_launch.h"
#include "ops/cuda/sparse_attention_tiles.cuh"

// Four warpgroups on each SM. Two take the blocks of 64 keys in turn, each in a slot of its own and from end
// to end: they gather the keys, multiply them with the queries, [64, 576] x [64, 576]^T, and make weights
// [64, 64] of the scores. While one waits for memory or makes weights, the other has the tensor cores. The
// other two multiply the weights of every block with 256 channels each of the values and have the sums o in
// their registers. A slot's way from empty to empty, of which two overlap, is the time of two blocks.
namespace sluice::ops::cuda {
namespace {

constexpr int kScoreWarps = 4 * kBlockSlots;
constexpr int kValueWarps = 8;
constexpr int kThreads = 32 * (kScoreWarps + kValueWarps);
constexpr int kChannels = 128;  // of o in a thread: 2 heads x 64

// The four warps of a slot.
__device__ void SyncSlot(int slot) { asm volatile("bar.sync %0, 128;" ::"r"(1 + slot) : "memory"); }

// The next tile; every warp takes it.
__device__ Tile TakeTile(Ring<kTileSlots>& slot, Shared& shared) {
  Wait(&shared.tile_full[slot.slot], slot.parity);
  const Tile tile = shared.tile[slot.slot];
  ArriveOnce(&shared.tile_empty[slot.slot]);
  slot.Next();
  return tile;
}

// ---- scores and weights ----

// s = queries x keys of the block, which are in the slot then; from a bf16 cache the first half of the
// channels is multiplied while the second comes, from FP8 it is in registers (`ahead`) when the slot becomes
// empty. `row`: of the lane's key.
template <bool kFp8>
__device__ void ScoreBlock(const SparseAttention& work, int32_t row, const CodesAhead& ahead, int slot,
                           uint32_t parity, uint32_t queries_parity, Shared& shared, float (&s)[32]) {
  uint8_t(*panels)[kPanelBytes] = shared.keys[slot];
  if constexpr (kFp8) {
    for (int half = 0; half < 2; ++half) Wait(&shared.keys_empty[slot][half], parity ^ 1);
    CopyKeyCodes<CodesAhead::kQuarters>(work, row, panels, shared.scales[slot]);
    EndCopyGroup();
    WaitForCopyGroups<1>();  // for the scales
    __syncwarp();
#pragma unroll
    for (int quarter = 0; quarter < CodesAhead::kQuarters; ++quarter) {
      ahead.Store(quarter, panels + 2 * quarter, shared.scales[slot]);
    }
    WaitForCopyGroups<0>();
    __syncwarp();
#pragma unroll 1
    for (int quarter = CodesAhead::kQuarters; quarter < kQuantBlocks; ++quarter) {
      DequantizeKeyQuarter(quarter, panels, shared.scales[slot]);
    }
  } else {
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      Wait(&shared.keys_empty[slot][half], parity ^ 1);
      CopyKeyValues(work, row, half, panels);
      EndCopyGroup();
    }
    WaitForCopyGroups<1>();
  }
  Wait(&shared.queries_full, queries_parity);
  FenceShared();
  SyncSlot(slot);
  Pin(s);
  ScorePanels<0, kHalfPanels>(shared.queries, panels, s);
  if constexpr (!kFp8) {
    WaitForCopyGroups<0>();
    FenceShared();
    SyncSlot(slot);
  }
  ScorePanels<kHalfPanels, kPanels>(shared.queries, panels, s);
  WgmmaWait<0>();
  Pin(s);
}

// Scores become weights in the place of the block's rotated channels.
__device__ void WeighBlock(float exponent_scale, bool first, int slot, uint32_t parity, Shared& shared,
                           const float (&s)[32]) {
  float reference[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) reference[i] = __fmul_rn(LargestOfBlock(s, i), exponent_scale);
  // Of the block before, in the other slot, which had one block more if this is slot 1. At a tile's first
  // it only keeps the two in step.
  Wait(&shared.reference_full[slot ^ 1], slot == 0 ? parity ^ 1 : parity);
  float before[2], rescale[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) before[i] = LoadFloat(SharedAddress(&shared.reference[slot ^ 1][HeadOf(i)]));
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (first) before[i] = -INFINITY;
    reference[i] = NextReference(before[i], reference[i]);
    rescale[i] = Exp2(before[i] - reference[i]);
    if (Lane() % 4 == 0) shared.reference[slot][HeadOf(i)] = reference[i];
  }
  ArriveOnce(&shared.reference_full[slot]);
  uint32_t weights[16];
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    weights[j] = Weights(s[2 * j], s[2 * j + 1], exponent_scale, reference[j % 2]);
  }
  SyncSlot(slot);  // all have read the rotated channels
  uint8_t* panel = shared.keys[slot][kRotatedPanel];
  const int place = Opaque(PlaceInPanel(HeadOf(0), 0) + 4 * (Lane() % 4));
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    *reinterpret_cast<uint32_t*>(panel + (place ^ (j / 2 * 16)) + j % 2 * (8 * 128)) = weights[j];
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sum = SumOfBlock(weights, i);
    if (Lane() % 4 == 0) {
      shared.rescale[slot][HeadOf(i)] = rescale[i];
      shared.sums[slot][HeadOf(i)] = sum;
    }
  }
  FenceShared();
  ArriveOnce(&shared.weights_full[slot]);
}

// A slot's blocks: every second of all that the tiles have.
template <bool kFp8, int kSlot>
__device__ void ScoreTiles(const LaunchedAttention& launched, Shared& shared) {
  const SparseAttention& work = launched.work;
  constexpr bool kDraws = kSlot == 0;
  TileDraw draw(launched, shared);
  Ring<kTileSlots> tile_slot;
  uint32_t queries_parity = 0;
  uint32_t parity = 0;
  int block = kSlot;  // the slot's next, of the tile's
  while (true) {
    if constexpr (kDraws) draw.Complete();
    const Tile tile = TakeTile(tile_slot, shared);
    if (tile.row < 0) return;
    if (tile.keys == 0) continue;
    KeyRows rows(work, tile, block, kBlockSlots);
    if constexpr (kDraws) draw.AwaitRoom();
    if constexpr (kFp8) WaitForCopies();  // of scales for no block, behind the last tile's end
    Wait(&shared.queries_empty, queries_parity ^ 1);
    BringQueries<kScoreWarps>(work, tile, shared.queries, &shared.queries_full);
    const int blocks = (tile.keys + kBlockKeys - 1) / kBlockKeys;
    if (block >= blocks) ArriveOnce(&shared.queries_empty);
    int32_t row = rows.Next();
    CodesAhead ahead;
    if constexpr (kFp8) ahead.Bring(work, row, shared.scales[kSlot]);
    for (; block < blocks; block += kBlockSlots) {
      if constexpr (kDraws) draw.Step();
      float s[32];
      ScoreBlock<kFp8>(work, row, ahead, kSlot, parity, queries_parity, shared, s);
      if (block + kBlockSlots >= blocks) ArriveOnce(&shared.queries_empty);
      if (block + 1 == blocks) MaskScores(tile.keys - block * kBlockKeys, s);
      WeighBlock(launched.exponent_scale, block == 0, kSlot, parity, shared, s);
      parity ^= 1;
      row = rows.Next();
      if constexpr (kFp8) ahead.Bring(work, row, shared.scales[kSlot]);
    }
    block -= blocks;
    queries_parity ^= 1;
  }
}

// ---- values ----

// o += weights x values of the block, which then may go, and of the weights' sums the same. Who wrote weights
// and keys has fenced them (ScoreBlock, WeighBlock).
__device__ void AccumulateBlock(int half, const Ring<kBlockSlots>& block, bool first, Shared& shared,
                                float (&sums)[2], float (&o)[2][kChannels / 2]) {
  const int slot = block.slot;
  Wait(&shared.weights_full[slot], block.parity);
  const float rescale[2] = {shared.rescale[slot][HeadOf(0)], shared.rescale[slot][HeadOf(1)]};
#pragma unroll
  for (int i = 0; i < 2; ++i) sums[i] = __fmaf_rn(sums[i], rescale[i], shared.sums[slot][HeadOf(i)]);
  if (!first && __any_sync(~0U, rescale[0] != 1.0F || rescale[1] != 1.0F)) {
#pragma unroll
    for (int i = 0; i < kChannels; ++i) {
      float& value = o[i / (kChannels / 2)][i % (kChannels / 2)];
      value = __fmul_rn(value, rescale[i % 4 / 2]);
    }
  }
  const uint64_t weights = TileDescriptor(shared.keys[slot][kRotatedPanel]);
  const uint64_t values = ColumnsDescriptor(shared.keys[slot][half * kHalfPanels]);
  constexpr uint64_t kSixteenKeys = 16 * 128 / 16;
  constexpr uint64_t kTwoPanels = 2 * kPanelBytes / 16;
  Pin(o[0]);
  Pin(o[1]);
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kBlockKeys / 16; ++k) {
    WgmmaBf16Columns(o[0], weights + 2 * k, values + k * kSixteenKeys, !first || k > 0);
    WgmmaBf16Columns(o[1], weights + 2 * k, values + k * kSixteenKeys + kTwoPanels, !first || k > 0);
  }
  WgmmaCommit();
  WgmmaWait<0>();
  Pin(o[0]);
  Pin(o[1]);
  __syncwarp();
  if (Lane() == 0) {
    // The weights lie in the second half, and both warpgroups read them.
    if (half == 0) Arrive(&shared.keys_empty[slot][0]);
    Arrive(&shared.keys_empty[slot][1]);
  }
}

// o (1 / sum) -> bf16, of the heads that there are; without keys 0.
__device__ void Finish(const SparseAttention& work, const Tile& tile, int half, const float (&sums)[2],
                       const float (&o)[2][kChannels / 2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t head = tile.head_group * kTileHeads + HeadOf(i);
    auto* to = static_cast<__nv_bfloat16*>(work.o_latent) + tile.row * work.o_stride + head * kLatent +
               half * (kLatent / 2);
    const float factor = __frcp_rn(sums[i]);
    StoreRow<kChannels / 4>(head < work.heads, to, [&](int j) -> float2 {
      if (tile.keys == 0) return {0.0F, 0.0F};
      const float* pair = &o[j / 16][4 * (j % 16) + 2 * i];
      return {__fmul_rn(pair[0], factor), __fmul_rn(pair[1], factor)};
    });
  }
}

__device__ void AccumulateTiles(const LaunchedAttention& launched, int half, Shared& shared) {
  Ring<kTileSlots> tile_slot;
  Ring<kBlockSlots> block;
  while (true) {
    const Tile tile = TakeTile(tile_slot, shared);
    if (tile.row < 0) return;
    float o[2][kChannels / 2];
    float sums[2] = {0.0F, 0.0F};
    for (int32_t begin = 0; begin < tile.keys; begin += kBlockKeys) {
      AccumulateBlock(half, block, begin == 0, shared, sums, o);
      block.Next();
    }
    Finish(launched.work, tile, half, sums, o);
  }
}

template <bool kFp8>
__global__ void __launch_bounds__(kThreads, 1) AttentionKernel(const LaunchedAttention launched) {
  // Aligned here, so that the compiler knows the addresses below for constants in shared memory: through
  // generic ones everything would cost twice the registers and the time.
  extern __shared__ __align__(1024) uint8_t memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  if (threadIdx.x == 0) {
    InitBarrier(&shared.queries_full, 32 * kScoreWarps);
    InitBarrier(&shared.queries_empty, kScoreWarps);
    for (int i = 0; i < kBlockSlots; ++i) {
      InitBarrier(&shared.keys_empty[i][0], kValueWarps / 2);
      InitBarrier(&shared.keys_empty[i][1], kValueWarps);
      InitBarrier(&shared.reference_full[i], kScoreWarps / kBlockSlots);
      InitBarrier(&shared.weights_full[i], kScoreWarps / kBlockSlots);
    }
    for (int i = 0; i < kTileSlots; ++i) {
      InitBarrier(&shared.tile_full[i], 1);
      InitBarrier(&shared.tile_empty[i], kThreads / 32);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  // The same in all lanes, which the compiler cannot know of threadIdx: else it keeps what follows from it in
  // each lane's registers, and asks before each exchange of lanes which of them run.
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  constexpr int kScoreRegisters = 96;
  constexpr int kValueRegisters = 160;
  static_assert(2 * kScoreRegisters + 2 * kValueRegisters <= 4 * 128);  // 128: compiled for
  if (warpgroup == 0) {
    GiveRegisters<kScoreRegisters>();
    ScoreTiles<kFp8, 0>(launched, shared);
  } else if (warpgroup == 1) {
    GiveRegisters<kScoreRegisters>();
    ScoreTiles<kFp8, 1>(launched, shared);
  } else {
    TakeRegisters<kValueRegisters>();
    AccumulateTiles(launched, warpgroup - kBlockSlots, shared);
  }
}

template <bool kFp8>
cudaError_t LaunchAs(const LaunchedAttention& launched, int sms, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared));
  static_assert(kBytes <= 227 * 1024);
  if (const cudaError_t error =
          cudaFuncSetAttribute(AttentionKernel<kFp8>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess) {
    return error;
  }
  AttentionKernel<kFp8><<<static_cast<unsigned>(sms), kThreads, kBytes, stream>>>(launched);
  return cudaGetLastError();
}

}  // namespace

cudaError_t Launch(const LaunchedAttention& launched, int sms, cudaStream_t stream) {
  if (const cudaError_t error = cudaMemsetAsync(launched.tiles, 0, sizeof(int32_t), stream);
      error != cudaSuccess) {
    return error;
  }
  return launched.work.format == CacheFormat::kFp8 ? LaunchAs<true>(launched, sms, stream)
                                                   : LaunchAs<false>(launched, sms, stream);
}

}  // namespace sluice::ops::cuda
