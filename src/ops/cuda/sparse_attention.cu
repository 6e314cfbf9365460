#include <cuda_bf16.h>

#include <cmath>

#include "ops/cuda/attention_math.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_launch.h"
#include "ops/cuda/sparse_attention_tiles.cuh"

// Four warpgroups on each SM, each at its own step of a block of 64 keys:
//
//   one gathers the keys (sparse_attention_tiles.cuh);
//   one multiplies them with the queries, [64, 576] x [64, 576]^T, and makes weights [64, 64] of the scores;
//   two multiply the weights with 256 channels each of the values and have the sums o in their registers.
namespace sluice::ops::cuda {
namespace {

constexpr int kScoreWarps = 4;
constexpr int kValueWarps = 8;
constexpr int kThreads = 32 * (kGatherWarps + kScoreWarps + kValueWarps);
constexpr int kChannels = 128;  // of o in a thread: 2 heads x 64

__device__ void SyncScores() { asm volatile("bar.sync 1, %0;" ::"n"(32 * kScoreWarps) : "memory"); }

// A warp's arrival.
__device__ void ArriveOnce(uint64_t* barrier) {
  __syncwarp();
  if (Lane() == 0) Arrive(barrier);
}

// The next tile; every warp takes it.
__device__ Tile TakeTile(Ring<kTileSlots>& slot, Shared& shared) {
  Wait(&shared.tile_full[slot.slot], slot.parity);
  const Tile tile = shared.tile[slot.slot];
  ArriveOnce(&shared.tile_empty[slot.slot]);
  slot.Next();
  return tile;
}

// ---- scores and weights ----

struct Softmax {
  float reference[2] = {-INFINITY, -INFINITY};  // exponent
  float sum[2] = {0.0F, 0.0F};
};

// Scores become weights in the place of the block's rotated channels.
__device__ void WeighBlock(float exponent_scale, int slot, Shared& shared, const float (&s)[32],
                           Softmax& softmax) {
  float rescale[2];
  uint32_t weights[16];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float reference =
        NextReference(softmax.reference[i], __fmul_rn(LargestOfBlock(s, i), exponent_scale));
    rescale[i] = Exp2(softmax.reference[i] - reference);
    softmax.reference[i] = reference;
  }
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    weights[j] = Weights(s[2 * j], s[2 * j + 1], exponent_scale, softmax.reference[j % 2]);
  }
  SyncScores();  // all have read the rotated channels
  uint8_t* panel = shared.keys.panels[slot][kRotatedPanel];
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    *reinterpret_cast<uint32_t*>(panel + PlaceInPanel(HeadOf(j % 2), j / 2) + 4 * (Lane() % 4)) = weights[j];
  }
  if (Lane() % 4 == 0) {
    for (int i = 0; i < 2; ++i) shared.rescale[slot][HeadOf(i)] = rescale[i];
  }
  FenceShared();
  ArriveOnce(&shared.weights_full[slot]);
#pragma unroll
  for (int i = 0; i < 2; ++i) softmax.sum[i] = __fmaf_rn(softmax.sum[i], rescale[i], SumOfBlock(weights, i));
}

__device__ void ScoreTiles(const LaunchedAttention& launched, Shared& shared) {
  Ring<kTileSlots> tile_slot;
  Ring<kTileSlots> sums;
  Ring<kBlockSlots> block;
  uint32_t queries_parity = 0;
  while (true) {
    const Tile tile = TakeTile(tile_slot, shared);
    if (tile.row < 0) return;
    if (tile.keys == 0) continue;
    Wait(&shared.queries_full, queries_parity);
    queries_parity ^= 1;
    Softmax softmax;
    for (int32_t left = tile.keys; left > 0; left -= kBlockKeys) {
      float s[32];
      ScoreBlock(block, shared.queries, shared.keys, s);
      if (left <= kBlockKeys) {
        ArriveOnce(&shared.queries_empty);
        MaskScores(left, s);
      }
      WeighBlock(launched.exponent_scale, block.slot, shared, s, softmax);
      block.Next();
    }
    Wait(&shared.sums_empty[sums.slot], sums.parity ^ 1);
    if (Lane() % 4 == 0) {
      for (int i = 0; i < 2; ++i) shared.sums[sums.slot][HeadOf(i)] = softmax.sum[i];
    }
    ArriveOnce(&shared.sums_full[sums.slot]);
    sums.Next();
  }
}

// ---- values ----

// o += weights x values of the block, which then may go.
__device__ void AccumulateBlock(int half, const Ring<kBlockSlots>& block, bool first, Shared& shared,
                                float (&o)[2][kChannels / 2]) {
  const int slot = block.slot;
  Wait(&shared.weights_full[slot], block.parity);
  FenceShared();
  if (!first) {
    const float rescale[2] = {shared.rescale[slot][HeadOf(0)], shared.rescale[slot][HeadOf(1)]};
    if (__any_sync(~0U, rescale[0] != 1.0F || rescale[1] != 1.0F)) {
#pragma unroll
      for (int i = 0; i < kChannels; ++i) {
        float& value = o[i / (kChannels / 2)][i % (kChannels / 2)];
        value = __fmul_rn(value, rescale[i % 4 / 2]);
      }
    }
  }
  const uint64_t weights = TileDescriptor(shared.keys.panels[slot][kRotatedPanel]);
  const uint64_t values = ColumnsDescriptor(shared.keys.panels[slot][half * kHalfPanels]);
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
    if (half == 0) Arrive(&shared.keys.empty[slot][0]);
    Arrive(&shared.keys.empty[slot][1]);
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
  Ring<kTileSlots> sums_slot;
  Ring<kBlockSlots> block;
  while (true) {
    const Tile tile = TakeTile(tile_slot, shared);
    if (tile.row < 0) return;
    float o[2][kChannels / 2];
    float sums[2] = {0.0F, 0.0F};
    for (int32_t begin = 0; begin < tile.keys; begin += kBlockKeys) {
      AccumulateBlock(half, block, begin == 0, shared, o);
      block.Next();
    }
    if (tile.keys > 0) {
      Wait(&shared.sums_full[sums_slot.slot], sums_slot.parity);
      for (int i = 0; i < 2; ++i) sums[i] = shared.sums[sums_slot.slot][HeadOf(i)];
      ArriveOnce(&shared.sums_empty[sums_slot.slot]);
      sums_slot.Next();
    }
    Finish(launched.work, tile, half, sums, o);
  }
}

template <bool kFp8>
__global__ void __launch_bounds__(kThreads, 1) AttentionKernel(const LaunchedAttention launched) {
  extern __shared__ uint8_t memory[];
  // The first whole 1,024 bytes, computed so that the compiler still knows it for shared memory: through
  // generic addresses everything below would cost twice the registers and the time.
  Shared& shared = *reinterpret_cast<Shared*>(memory + (-SharedAddress(memory) & 1023U));
  if (threadIdx.x == 0) {
    InitBarrier(&shared.queries_full, kGatherThreads);
    InitBarrier(&shared.queries_empty, kScoreWarps);
    for (int i = 0; i < kBlockSlots; ++i) {
      InitBarrier(&shared.keys.full[i][0], kGatherThreads);
      InitBarrier(&shared.keys.full[i][1], kGatherThreads);
      InitBarrier(&shared.keys.empty[i][0], kValueWarps / 2);
      InitBarrier(&shared.keys.empty[i][1], kValueWarps);
      InitBarrier(&shared.weights_full[i], kScoreWarps);
    }
    for (int i = 0; i < kTileSlots; ++i) {
      InitBarrier(&shared.sums_full[i], kScoreWarps);
      InitBarrier(&shared.sums_empty[i], kValueWarps);
      InitBarrier(&shared.tile_full[i], 1);
      InitBarrier(&shared.tile_empty[i], kThreads / 32);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x / 128);
  constexpr int kGatherRegisters = 88;
  constexpr int kScoreRegisters = 104;
  constexpr int kValueRegisters = 160;
  static_assert(kGatherRegisters + kScoreRegisters + 2 * kValueRegisters <= 4 * 128);  // 128: compiled for
  if (warpgroup == 0) {
    GiveRegisters<kGatherRegisters>();
    BringTiles<kFp8>(launched, shared);
  } else if (warpgroup == 1) {
    GiveRegisters<kScoreRegisters>();
    ScoreTiles(launched, shared);
  } else {
    TakeRegisters<kValueRegisters>();
    AccumulateTiles(launched, warpgroup - 2, shared);
  }
}

template <bool kFp8>
cudaError_t LaunchAs(const LaunchedAttention& launched, int sms, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared)) + 1024;
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
