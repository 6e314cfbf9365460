#include <cuda_bf16.h>

#include <cmath>

#include "ops/cuda/hopper.cuh"
#include "ops/cuda/partial_softmax.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_launch.h"
#include "ops/cuda/sparse_attention_tiles.cuh"

// Three warpgroups on each SM. The first gathers (sparse_attention_tiles.cuh). The other two hold 256 of the
// 512 output channels each, and take turns with the scores: a block's belong to the one of its slot.
//
//   queries [64, 576] x keys [64, 576]^T -> scores -> weights [64, 64] -> shared memory
//   weights x keys [64, 512] -> o, in registers of both
namespace sluice::ops::cuda {
namespace {

constexpr int kThreads = kGatherThreads + kMathThreads;
constexpr int kMathWarps = kMathThreads / 32;

template <int kBarrier, int kCount>
__device__ void SyncThreads() {
  asm volatile("bar.sync %0, %1;" ::"n"(kBarrier), "n"(kCount) : "memory");
}
__device__ void SyncWarpgroup(int half) {
  if (half == 0) {
    SyncThreads<1, 128>();
  } else {
    SyncThreads<2, 128>();
  }
}
__device__ void SyncMath() { SyncThreads<3, kMathThreads>(); }

__device__ int Lane() { return static_cast<int>(threadIdx.x % 32); }
// The head of the tile to which this thread's d[4 j + 2 i + c] of a wgmma belong.
__device__ int HeadOf(int i) {
  return static_cast<int>(threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4) + 8 * i;
}

// s = queries x keys of the block.
__device__ void ScoreBlock(int slot, const Shared& shared, float (&s)[32]) {
  const uint64_t queries = TileDescriptor(shared.queries);
  const uint64_t block = TileDescriptor(shared.keys[slot]);
  Pin(s);
  WgmmaFence();
#pragma unroll
  for (int panel = 0; panel < kPanels; ++panel) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const uint64_t step = static_cast<uint64_t>(panel) * (kPanelBytes / 16) + 2 * k;
      WgmmaBf16(s, queries + step, block + step, panel > 0 || k > 0);
    }
  }
  WgmmaCommit();
  WgmmaWait<0>();
  Pin(s);
}

// Scores become weights, and do to the sums what they do; `keys` of the block are there.
__device__ void WeighBlock(float exponent_scale, int half, int slot, int32_t keys, bool first, Shared& shared,
                           float (&s)[32]) {
  SyncWarpgroup(half);  // all have read the rotated channels, where the weights go
  const int quad = Lane() % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float largest = -INFINITY;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& score = s[4 * j + 2 * i + c];
        if (8 * j + 2 * quad + c >= keys) score = -INFINITY;
        largest = fmaxf(largest, score);
      }
    }
    largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 2));
    const int head = HeadOf(i);
    const float largest_before = first ? -INFINITY : shared.largest[slot ^ 1][head];
    const float sum_before = first ? 0.0F : shared.sum[slot ^ 1][head];
    largest = fmaxf(largest_before, __fmul_rn(largest, exponent_scale));
    float sum = 0.0F;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const __nv_bfloat162 weights =
          __floats2bfloat162_rn(Exp2(__fmaf_rn(s[4 * j + 2 * i], exponent_scale, -largest)),
                                Exp2(__fmaf_rn(s[4 * j + 2 * i + 1], exponent_scale, -largest)));
      *reinterpret_cast<__nv_bfloat162*>(shared.keys[slot][kRotatedPanel] + PlaceInPanel(head, j) +
                                         4 * quad) = weights;
      const float2 values = __bfloat1622float2(weights);
      sum = __fadd_rn(__fadd_rn(sum, values.x), values.y);
    }
    sum = __fadd_rn(sum, __shfl_xor_sync(~0U, sum, 1));
    sum = __fadd_rn(sum, __shfl_xor_sync(~0U, sum, 2));
    if (quad == 0) {
      const float rescale = Exp2(largest_before - largest);
      shared.largest[slot][head] = largest;
      shared.sum[slot][head] = __fmaf_rn(sum_before, rescale, sum);
      shared.rescale[slot][head] = rescale;
    }
  }
  FenceShared();
  Arrive(&shared.weights_full[slot]);
}

// o += weights x values of the block, which then may go.
__device__ void AccumulateValues(int half, int slot, bool first, Shared& shared, float (&o)[kChannels]) {
  const uint64_t weights = TileDescriptor(shared.keys[slot][kRotatedPanel]);
  const uint64_t values = ColumnsDescriptor(shared.keys[slot][half * kHalfPanels]);
  constexpr uint64_t kSixteenKeys = 16 * 128 / 16;
  Pin(o);
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kBlockKeys / 16; ++k) {
    WgmmaBf16Columns(o, weights + 2 * k, values + k * kSixteenKeys, !first || k > 0);
  }
  WgmmaCommit();
  WgmmaWait<0>();
  Pin(o);
  __syncwarp();
  if (Lane() == 0) {
    // The weights lie in the second half, and both warpgroups read them.
    if (half == 0) Arrive(&shared.keys_empty[slot][0]);
    Arrive(&shared.keys_empty[slot][1]);
  }
}

// While one warpgroup turns its block's scores into weights, the other makes the next block's scores.
__device__ void AttendPartition(float exponent_scale, int half, int32_t keys, Ring<kBlockSlots>& block,
                                Shared& shared, Partial& partial) {
  const auto score = [&](const Ring<kBlockSlots>& of, float(&s)[32]) {
    Wait(&shared.keys_full[of.slot][0], of.parity);
    Wait(&shared.keys_full[of.slot][1], of.parity);
    FenceShared();
    ScoreBlock(of.slot, shared, s);
  };
  const auto accumulate = [&](bool first) {
    Wait(&shared.keys_full[block.slot][half], block.parity);
    Wait(&shared.weights_full[block.slot], block.parity);
    FenceShared();
    if (!first) {
      const float rescale[2] = {shared.rescale[block.slot][HeadOf(0)], shared.rescale[block.slot][HeadOf(1)]};
#pragma unroll
      for (int i = 0; i < kChannels; ++i) partial.o[i] = __fmul_rn(partial.o[i], rescale[i % 4 / 2]);
    }
    AccumulateValues(half, block.slot, first, shared, partial.o);
  };
  if (block.slot == half) {
    float s[32];
    score(block, s);
    WeighBlock(exponent_scale, half, block.slot, keys, /*first=*/true, shared, s);
  }
  for (int32_t begin = 0; begin < keys; begin += kBlockKeys) {
    const bool last = begin + kBlockKeys >= keys;
    if (block.slot == half || last) {
      accumulate(begin == 0);
    } else {
      Ring<kBlockSlots> next = block;
      next.Next();
      float s[32];
      score(next, s);
      accumulate(begin == 0);
      WeighBlock(exponent_scale, half, next.slot, keys - begin - kBlockKeys, /*first=*/false, shared, s);
    }
    if (last) {
      for (int i = 0; i < 2; ++i) {
        partial.largest[i] = shared.largest[block.slot][HeadOf(i)];
        partial.sum[i] = shared.sum[block.slot][HeadOf(i)];
      }
    }
    block.Next();
  }
}

// ---- output ----

// o (1 / sum) -> bf16, of the heads that there are; without keys 0.
__device__ void Finish(const SparseAttention& work, const Tile& tile, int half, const Partial& partial) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t head = tile.head_group * kTileHeads + HeadOf(i);
    if (head >= work.heads) continue;
    auto* o = static_cast<__nv_bfloat16*>(work.o_latent) + tile.row * work.o_stride + head * kLatent +
              half * (kLatent / 2) + Lane() % 4 * 2;
    const float factor = __frcp_rn(partial.sum[i]);
#pragma unroll
    for (int j = 0; j < kChannels / 4; ++j) {
      const float first = tile.keys > 0 ? __fmul_rn(partial.o[4 * j + 2 * i], factor) : 0.0F;
      const float second = tile.keys > 0 ? __fmul_rn(partial.o[4 * j + 2 * i + 1], factor) : 0.0F;
      *reinterpret_cast<__nv_bfloat162*>(o + 8 * j) = __floats2bfloat162_rn(first, second);
    }
  }
}

// Puts the tile's partition with the row's others; true for the one that came last, which then has the whole.
__device__ bool JoinOthers(const LaunchedAttention& launched, const Tile& tile, Shared& shared,
                           Partial& partial) {
  const int64_t item = int64_t{tile.row} * launched.head_groups + tile.head_group;
  const int64_t first_place = item * launched.partitions;
  Store(partial, OwnPlace(launched, first_place + tile.first_partition));
  __threadfence();
  SyncMath();
  if (threadIdx.x == kGatherThreads) shared.arrived = atomicAdd(launched.arrivals + item, 1) + 1;
  SyncMath();
  const auto partitions = static_cast<int32_t>((tile.keys + kPartition - 1) / kPartition);
  if (shared.arrived < partitions) return false;
  __threadfence();
  Load(OwnPlace(launched, first_place), partial);
  for (int32_t later = 1; later < partitions; ++later) {
    Merge</*kEarlier=*/false>(OwnPlace(launched, first_place + later), partial);
  }
  return true;
}

__device__ void AttendTiles(const LaunchedAttention& launched, int half, Shared& shared) {
  Ring<kTileSlots> tile_slot;
  Ring<kBlockSlots> block;
  uint32_t queries_parity = 0;
  while (true) {
    Wait(&shared.tile_full[tile_slot.slot], tile_slot.parity);
    const Tile tile = shared.tile[tile_slot.slot];
    __syncwarp();
    if (Lane() == 0) Arrive(&shared.tile_empty[tile_slot.slot]);
    tile_slot.Next();
    if (tile.row < 0) return;
    Partial partial;
    if (tile.keys == 0) {
      Finish(launched.work, tile, half, partial);
      continue;
    }
    Wait(&shared.queries_full, queries_parity);
    queries_parity ^= 1;
    float4* running = OwnPlace(launched, blockIdx.x);
    for (int32_t partition = tile.first_partition; partition < tile.end_partition; ++partition) {
      const bool last = partition + 1 == tile.end_partition;
      const auto keys = static_cast<int32_t>(min(kPartition, tile.keys - partition * kPartition));
      AttendPartition(launched.exponent_scale, half, keys, block, shared, partial);
      __syncwarp();
      if (last && Lane() == 0) Arrive(&shared.queries_empty);
      if (partition > tile.first_partition) Merge</*kEarlier=*/true>(running, partial);
      if (!last) Store(partial, running);
    }
    const bool whole = !launched.split || tile.keys <= kPartition;
    if (whole || JoinOthers(launched, tile, shared, partial)) Finish(launched.work, tile, half, partial);
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
    InitBarrier(&shared.queries_empty, kMathWarps);
    for (int i = 0; i < kBlockSlots; ++i) {
      InitBarrier(&shared.keys_full[i][0], kGatherThreads);
      InitBarrier(&shared.keys_full[i][1], kGatherThreads);
      InitBarrier(&shared.keys_empty[i][0], kMathWarps / 2);
      InitBarrier(&shared.keys_empty[i][1], kMathWarps);
      InitBarrier(&shared.weights_full[i], kMathThreads / 2);
    }
    for (int i = 0; i < kTileSlots; ++i) {
      InitBarrier(&shared.tile_full[i], 1);
      InitBarrier(&shared.tile_empty[i], kGatherWarps + kMathWarps);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x / 128);
  if (warpgroup == 0) {
    GiveRegisters<88>();
    BringTiles<kFp8>(launched, shared);
  } else {
    static_assert(kGatherThreads * 88 + kMathThreads * 208 <= kThreads * 168);  // 168: compiled for
    TakeRegisters<208>();
    AttendTiles(launched, warpgroup - 1, shared);
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
  if (launched.split) {
    const auto items = static_cast<size_t>(launched.work.rows * launched.head_groups);
    if (const cudaError_t error = cudaMemsetAsync(launched.arrivals, 0, items * sizeof(int32_t), stream);
        error != cudaSuccess) {
      return error;
    }
  }
  return launched.work.format == CacheFormat::kFp8 ? LaunchAs<true>(launched, sms, stream)
                                                   : LaunchAs<false>(launched, sms, stream);
}

}  // namespace sluice::ops::cuda
