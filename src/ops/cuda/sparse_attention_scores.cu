#include <cmath>

#include "ops/cuda/attention_math.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/key_copies.cuh"
#include "ops/cuda/latent_gather.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_few.cuh"
#include "ops/cuda/sparse_attention_launch.h"
#include "ops/cuda/sparse_attention_score_weights.cuh"

// Few rows, first launch: scores, and where the values' launch does not make them weights. A block of threads
// has some of a row's blocks of keys and all its heads, 128 or 64, or one of two such blocks 64 of 128. One
// warpgroup gathers keys, two multiply them with queries that they keep in registers: with 128 heads each has
// 64 of them, with 64 the two take the blocks of keys in turn. A quarter of a block's channels is multiplied
// while the next are dequantised.
namespace sluice::ops::cuda {
namespace {

constexpr int kMathThreads = 256;
constexpr int kMathWarps = kMathThreads / 32;
constexpr int kThreads = kMathThreads + kGatherThreads;
constexpr int kSlots = 3;
constexpr int kSteps = static_cast<int>(kLatentWidth) / 16;  // of 16 channels

struct ScoreShared {
  // Of keys. To begin with the queries of a warpgroup lie in the second slot, those of the other, if they are
  // others, in the third.
  alignas(1024) uint8_t panels[kSlots][kPanels][kPanelBytes];
  alignas(16) float scales[kSlots][kBlockKeys][kQuantBlocks];  // of the codes
  uint64_t full[kSlots][kQuantBlocks];  // by quarters of the values' channels; the rotated come with the last
  uint64_t empty[kSlots];
  uint64_t queries_taken;
};

// A row's blocks [first, first + count), of its head groups those from `group` on.
struct Stretch {
  int32_t row;
  int32_t first;
  int32_t count;
  int32_t group;
};

// ---- keys ----

// From FP8: the first quarter's codes and the scales are a group of copies, all others another, so that the
// first is dequantised while those come.
__device__ void CopyCodesInTwo(const SparseAttention& work, int32_t row, uint8_t (*panels)[kPanelBytes],
                               float (*scales)[kQuantBlocks]) {
  const KeyCopies keys(work, kCodesRowBytes, row);
  CopyKeyScales(work, row, scales);
  keys.Copy(0, panels[kHalfPanels]);
  EndCopyGroup();
#pragma unroll
  for (int quarter = 1; quarter < kQuantBlocks; ++quarter) {
    keys.Copy(kQuantBlock * quarter, panels[kHalfPanels + quarter]);
  }
  keys.Copy(kCodesRowBytes - 2 * kRotated, panels[kRotatedPanel]);
  EndCopyGroup();
}

template <bool kFp8>
__device__ void BringKeys(const SparseAttention& work, const Stretch& stretch, ScoreShared& shared) {
  const int32_t first_position = FirstPosition(work, stretch.row, stretch.first, stretch.count);
  KeyRows rows(work, {stretch.row, 0, static_cast<int32_t>(work.top_k)}, stretch.first);
  const int blocks = BlocksWithKeys(first_position);
  Ring<kSlots> next;
  const auto open = [&](int block) {
    if (block == 1) Wait(&shared.queries_taken, 0);
    Wait(&shared.empty[next.slot], next.parity ^ 1);
  };
  if constexpr (kFp8) {
    const auto copy = [&](int block) {
      if (block < blocks) {
        const int32_t row = rows.Next();
        open(block);
        CopyCodesInTwo(work, row, shared.panels[next.slot], shared.scales[next.slot]);
        next.Next();
      } else {
        EndCopyGroup();
        EndCopyGroup();
      }
    };
    copy(0);
    Ring<kSlots> slot;
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
      copy(block + 1);
      WaitForCopyGroups<3>();
      __syncwarp();
#pragma unroll 1
      for (int quarter = 0; quarter < kQuantBlocks; ++quarter) {
        if (quarter == 1) {
          WaitForCopyGroups<2>();
          __syncwarp();
        }
        DequantizeKeyQuarter(quarter, shared.panels[slot.slot], shared.scales[slot.slot]);
        ArriveOnce(&shared.full[slot.slot][quarter]);
      }
      slot.Next();
    }
  } else {
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
      const int32_t row = rows.Next();
      open(block);
      for (int half = 0; half < 2; ++half) {
        CopyKeyValues(work, row, half, shared.panels[next.slot]);
        for (int i = 0; i < 2; ++i) ArriveAfterCopies(&shared.full[next.slot][2 * half + i]);
      }
      next.Next();
    }
  }
}

// ---- scores ----

// Both warpgroups; each has a barrier of its own besides (Weigh).
__device__ void SyncMath() { asm volatile("bar.sync 3, %0;" ::"n"(kMathThreads) : "memory"); }

// A warp's 16 queries as the registers of wgmma's first operand, by way of the panels. `both`: the other
// warpgroup takes the same, and each brings half of them.
__device__ void TakeQueries(const SparseAttention& work, int row, int head_group, int half, bool both,
                            uint8_t (*panels)[kPanelBytes], uint32_t (&queries)[kSteps][4]) {
  constexpr int kWarpQueries = 16;
  constexpr int kCopyQueries = 4;  // 128 bytes of each at once, 8 lanes for each
  const int lane = Lane();
  const int first = static_cast<int>(threadIdx.x % 128 / 32) * kWarpQueries;
  const int place = PlaceInPanel(first + lane / 8, lane % 8);
  const auto* q = static_cast<const uint8_t*>(work.q_latent) + 2 * row * work.q_stride + 16 * (lane % 8);
#pragma unroll
  for (int i = 0; i < kWarpQueries / kCopyQueries; ++i) {
    if (both && i % 2 != half) continue;
    const int64_t head = head_group * kTileHeads + first + kCopyQueries * i + lane / 8;
    const bool present = head < work.heads;
    const uint8_t* from = q + (present ? head * (2 * kLatentWidth) : 0);
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) {
      CopySixteen(from + 128 * panel, panels[panel] + PlaceBelow(place, kCopyQueries * i), present);
    }
  }
  WaitForCopies();
  if (both) {
    SyncMath();
  } else {
    __syncwarp();
  }
  const uint32_t at = SharedAddress(panels) + (first + lane % 16) * 128;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int piece = step % 4 * 2 + lane / 16;
    LoadMatrices(at + step / 4 * kPanelBytes + (piece ^ (lane & 7)) * 16, queries[step]);
  }
}

template <bool kWeigh>
__device__ void Score(const LaunchedAttention& launched, const Stretch& stretch, int half,
                      ScoreShared& shared) {
  const SparseAttention& work = launched.work;
  const int32_t first_position = FirstPosition(work, stretch.row, stretch.first, stretch.count);
  const bool in_turn = launched.score_groups == 1;
  const int head_group = stretch.group + (in_turn ? 0 : half);
  uint32_t queries[kSteps][4];
  TakeQueries(work, stretch.row, head_group, half, in_turn, shared.panels[in_turn ? 1 : 1 + half], queries);
  ArriveOnce(&shared.queries_taken);
  const int blocks = BlocksWithKeys(first_position);
  int32_t keys_of_last = 0;
  for (int i = 0; i < 2; ++i) {
    const int ordinal = (stretch.first + blocks - 1) * kBlockKeys + 32 * i + Lane();
    const bool present = blocks > 0 && ordinal < work.top_k &&
                         __ldg(work.selection + stretch.row * work.selection_stride + ordinal) >= 0;
    keys_of_last += __popc(__ballot_sync(~0U, present));
  }
  const int item = stretch.row * launched.head_groups + head_group;
  Ring<kSlots> slot;
#pragma unroll 1
  for (int block = 0; block < blocks; ++block, slot.Next()) {
    if (in_turn && block % 2 != half) continue;
    float s[32];
    Pin(s);
    const uint64_t keys = TileDescriptor(shared.panels[slot.slot]);
#pragma unroll
    for (int quarter = 0; quarter < kQuantBlocks; ++quarter) {
      Wait(&shared.full[slot.slot][quarter], slot.parity);
      // Here rather than where it is written: a fence waits for the thread's copies that are under way.
      FenceShared();
      WgmmaFence();
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        if (min(step / 8, kQuantBlocks - 1) != quarter) continue;
        WgmmaBf16(s, queries[step], Advance(keys, step / 4 * kPanelBytes + step % 4 * 32), step > 0);
      }
      WgmmaCommit();
    }
    WgmmaWait<0>();
    Pin(s);
    ArriveOnce(&shared.empty[slot.slot]);
    if (block + 1 == blocks) MaskScores(keys_of_last, s);
    const int in_row = stretch.first + block;
    float exponents[2];
    if constexpr (kWeigh) {
      LargestExponents(s, launched.exponent_scale, exponents);
      Publish(launched, item, in_row, exponents);
      const int step = in_turn ? 2 : 1;
      if (block + step >= blocks) {
        Weigh(launched, item, stretch.first + (in_turn ? half : 0), step, in_row, s, exponents, half);
        return;
      }
    }
    StoreScores(s, ScoresInMemory(launched, item, in_row));
    if constexpr (!kWeigh) {
      float* largest = LargestInMemory(launched, item, in_row);
      LargestExponents(s, launched.exponent_scale, exponents);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (Lane() % 4 == 0) largest[HeadOf(i)] = exponents[i];
      }
    }
  }
}

template <bool kFp8, bool kWeigh>
__global__ void __launch_bounds__(kThreads, 1) ScoreKernel(const LaunchedAttention launched) {
  extern __shared__ __align__(1024) uint8_t memory[];
  ScoreShared& shared = *reinterpret_cast<ScoreShared*>(memory);
  const auto number = static_cast<int>(blockIdx.x);
  const int shares = launched.head_groups / launched.score_groups;
  const int stretches = static_cast<int>(gridDim.x) / (static_cast<int>(launched.work.rows) * shares);
  const Stretch stretch{number / shares / stretches, number / shares % stretches * launched.stretch_blocks,
                        launched.stretch_blocks, number % shares * launched.score_groups};
  if (threadIdx.x == 0) {
    for (int i = 0; i < kSlots; ++i) {
      for (uint64_t& full : shared.full[i]) InitBarrier(&full, kGatherArrivals<kFp8>);
      InitBarrier(&shared.empty[i], kMathWarps / (launched.score_groups == 1 ? 2 : 1));
    }
    InitBarrier(&shared.queries_taken, kMathWarps);
    FenceBarrierInit();
  }
  __syncthreads();
  WaitForEarlierGrids();
  // Only now: those behind read before they wait what the launches before this one wrote.
  LetDependentsStart();
  constexpr int kGatherRegisters = 88;
  constexpr int kMathRegisters = 208;
  static_assert(kGatherThreads * kGatherRegisters + kMathThreads * kMathRegisters <=
                kThreads * 168);  // 168: compiled for
  // The same in all lanes, which the compiler cannot know of threadIdx.
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup >= kMathThreads / 128) {
    GiveRegisters<kGatherRegisters>();
    BringKeys<kFp8>(launched.work, stretch, shared);
  } else {
    TakeRegisters<kMathRegisters>();
    Score<kWeigh>(launched, stretch, warpgroup, shared);
  }
}

template <bool kFp8, bool kWeigh>
cudaError_t LaunchAs(const LaunchedAttention& launched, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(ScoreShared));
  static_assert(kBytes <= 227 * 1024);
  constexpr auto* kKernel = ScoreKernel<kFp8, kWeigh>;
  if (const cudaError_t error =
          cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess) {
    return error;
  }
  const auto row_blocks = static_cast<unsigned>((launched.work.top_k + kBlockKeys - 1) / kBlockKeys);
  const unsigned stretches = (row_blocks + launched.stretch_blocks - 1) / launched.stretch_blocks;
  const unsigned shares = launched.head_groups / launched.score_groups;
  return LaunchBehind(kKernel, launched, static_cast<unsigned>(launched.work.rows) * stretches * shares,
                      kThreads, kBytes, stream);
}

template <bool kFp8>
cudaError_t LaunchFrom(const LaunchedAttention& launched, cudaStream_t stream) {
  return ValuesMakeWeights(launched.parts) ? LaunchAs<kFp8, false>(launched, stream)
                                           : LaunchAs<kFp8, true>(launched, stream);
}

}  // namespace

cudaError_t LaunchScores(const LaunchedAttention& launched, cudaStream_t stream) {
  return launched.work.format == CacheFormat::kFp8 ? LaunchFrom<true>(launched, stream)
                                                   : LaunchFrom<false>(launched, stream);
}

}  // namespace sluice::ops::cuda
