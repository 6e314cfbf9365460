#include <cuda_bf16.h>

#include <cmath>

#include "ops/cuda/attention_math.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/key_copies.cuh"
#include "ops/cuda/latent_gather.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_few.cuh"
#include "ops/cuda/sparse_attention_launch.h"
#include "ops/cuda/sparse_attention_value_parts.cuh"
#include "ops/cuda/sparse_attention_value_weights.cuh"

// Few rows, last launch: values. A block of threads has 64 heads of a row and some channels of all its keys,
// which it multiplies with the weights in the order in which one block would, so the sums are those of
// sparse_attention.cu, bit for bit. Values are gathered while the launch before is still at the weights.
namespace sluice::ops::cuda {
namespace {

// ---- values ----

// The rows of all keys of a warp, into shared memory.
template <bool kFp8, int kParts>
__device__ void FindRows(const SparseAttention& work, int row, int group, int32_t* rows) {
  constexpr int kGroups = Split<kFp8, kParts>::kGatherGroups;
  constexpr int kEach = Split<kFp8, kParts>::kOwnBlocks * kWarpKeys / 32;
  const int lane = Lane();
  const int32_t* selection = work.selection + row * work.selection_stride;
  const int32_t* pages = work.page_tables + work.sequences[row] * work.table_stride;
  int32_t found[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int block = (2 * i + lane / kWarpKeys) * kGroups + group;
    const int ordinal = block * kBlockKeys + GatherWarp() * kWarpKeys + lane % kWarpKeys;
    const auto last = static_cast<int>(work.top_k) - 1;
    found[i] = __ldg(selection + min(ordinal, last));
    if (ordinal > last) found[i] = -1;
  }
  // Pages of all keys at once: loads under a condition would follow one another.
  constexpr int32_t kPage = static_cast<int32_t>(kPageTokens);
  int32_t page[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) page[i] = __ldg(pages + max(found[i], 0) / kPage);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (found[i] >= 0) found[i] = page[i] * kPage + found[i] % kPage;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) rows[32 * i + lane] = found[i];
  __syncwarp();
}

// Some channels of a warp's 16 keys, as bf16.
template <bool kFp8, int kParts>
__device__ void BringValuePanels(const SparseAttention& work, const int32_t* rows, int part,
                                 uint8_t (*panels)[kPanelBytes], uint64_t* full) {
  constexpr int kLanes = 8 * Split<kFp8, kParts>::kValuePanels;  // for one key
  const int lane = Lane();
  const int piece = lane % kLanes;
  const uint8_t* from =
      static_cast<const uint8_t*>(work.latents) + 2 * part * Split<kFp8, kParts>::kChannels + 16 * piece;
  constexpr int kCopies = kWarpKeys * kLanes / 32;
  const auto key = [&](int i) { return i * (32 / kLanes) + lane / kLanes; };
  int32_t row[kCopies];  // all before the first copy, behind which the compiler leaves a load
#pragma unroll
  for (int i = 0; i < kCopies; ++i) row[i] = rows[key(i)];
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    CopySixteen(from + max(row[i], 0) * (2 * kLatentWidth),
                panels[piece / 8] + PlaceInPanel(GatherWarp() * kWarpKeys + key(i), piece % 8), row[i] >= 0);
  }
  ArriveAfterCopies(full);
}

// The same of codes, into a slot, from which DequantizeWarpPanels takes them.
template <bool kFp8, int kParts>
__device__ void BringCodesOfPart(const SparseAttention& work, const int32_t* rows, int part, int slot,
                                 ValueShared<kFp8, kParts>& shared) {
  constexpr int kLanes = 4 * Split<kFp8, kParts>::kValuePanels;  // for one key
  const int lane = Lane();
  const int piece = lane % kLanes;
  const auto* latents = static_cast<const uint8_t*>(work.latents);
  const int channel = part * Split<kFp8, kParts>::kChannels;
  uint8_t* panel = shared.CodesOf(slot)[piece / 8];
  const int beside = shared.BesideOf(slot);
  constexpr int kCopies = kWarpKeys * kLanes / 32;
  const auto key = [&](int i) { return i * (32 / kLanes) + lane / kLanes; };
  int32_t row[kCopies];  // all before the first copy, behind which the compiler leaves a load
#pragma unroll
  for (int i = 0; i < kCopies; ++i) row[i] = rows[key(i)];
  const int32_t scaled_row = rows[lane % kWarpKeys];
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    CopySixteen(latents + int64_t{max(row[i], 0)} * kCodesRowBytes + channel + 16 * piece,
                panel + (PlaceInPanel(GatherWarp() * kWarpKeys + key(i), piece % 8) ^ beside), row[i] >= 0);
  }
  if (lane < kWarpKeys) {
    const uint8_t* from =
        latents + int64_t{max(scaled_row, 0)} * kCodesRowBytes + kLatent + channel / kQuantBlock * 4;
#pragma unroll
    for (int i = 0; i < Split<kFp8, kParts>::kScales; ++i) {
      CopyFour(from + 4 * i, &shared.scales[slot][GatherWarp() * kWarpKeys + lane][i], scaled_row >= 0);
    }
  }
}

template <bool kFp8, int kParts>
__device__ void BringValues(const SparseAttention& work, int row, int part, int group,
                            ValueShared<kFp8, kParts>& shared) {
  using Split = Split<kFp8, kParts>;
  using Stage = Stage<Split::kStages>;
  constexpr int kGatherGroups = Split::kGatherGroups;
  const int32_t first_position = FirstPosition(work, row, 0, kMostBlocks);
  int32_t* rows = shared.rows[group * kGatherWarps + GatherWarp()];
  FindRows<kFp8, kParts>(work, row, group, rows);
  const int blocks = BlocksWithKeys(first_position);
  const auto open = [&](int block) {
    const Stage stage(block);
    Wait(&shared.empty[stage.slot], stage.parity ^ 1);
    return stage.slot;
  };
  if constexpr (kFp8) {
    Ring<Split::kAhead> next, current;
    const auto copy = [&](int own) {
      if (own * kGatherGroups + group < blocks) {
        BringCodesOfPart<kFp8, kParts>(work, rows + own * kWarpKeys, part, group * Split::kAhead + next.slot,
                                       shared);
      }
      EndCopyGroup();
      next.Next();
    };
#pragma unroll 1
    for (int own = 0; own < Split::kAhead; ++own) copy(own);
#pragma unroll 1
    for (int own = 0; own * kGatherGroups + group < blocks; ++own) {
      WaitForCopyGroups<Split::kAhead - 1>();
      __syncwarp();
      const int codes = group * Split::kAhead + current.slot;
      current.Next();
      const int slot = open(own * kGatherGroups + group);
      DequantizeWarpPanels<Split::kValuePanels>(
          shared.CodesOf(codes), shared.panels[slot] + 1,
          [&](int key, int piece) { return shared.scales[codes][key][piece / 8]; }, shared.BesideOf(codes));
      ArriveOnce(&shared.full[slot]);
      copy(own + Split::kAhead);
    }
  } else {
    for (int own = 0; own * kGatherGroups + group < blocks; ++own) {
      const int slot = open(own * kGatherGroups + group);
      BringValuePanels<kFp8, kParts>(work, rows + own * kWarpKeys, part, shared.panels[slot] + 1,
                                     &shared.full[slot]);
    }
  }
}

// ---- sums of weights ----

// A block's to those before, of two heads; whether those were to be rescaled.
template <class Softmax>
__device__ bool AddSums(const Softmax& softmax, const int (&heads)[2], float (&sums)[2]) {
  bool rescaled = false;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float rescale = softmax.rescale[heads[i]];
    sums[i] = __fmaf_rn(sums[i], rescale, softmax.sums[heads[i]]);
    rescaled = rescaled || rescale != 1.0F;
  }
  return rescaled;
}

// ---- announcements: a warp's work ----

// Between the writes of a block's values and weights and the products that read them lies a fence between
// proxies, which waits for what its thread has under way: with those who write for copies, and with those who
// multiply it stands on their way from block to block, one chain of instructions that is as long as all their
// work. So a warp that has nothing under way waits until a block is full, fences, and announces it. The sums
// of weights and the question whether anything is to be rescaled leave that chain with it.
template <bool kFp8, int kParts>
__device__ void Announce(int blocks, ValueShared<kFp8, kParts>& shared) {
  static_assert(kTileHeads == 2 * 32);
  const int heads[2] = {Lane(), 32 + Lane()};
  float sums[2] = {};
  Ring<Split<kFp8, kParts>::kStages> stage;
#pragma unroll 1
  for (int block = 0; block < blocks; ++block, stage.Next()) {
    Wait(&shared.full[stage.slot], stage.parity);
    FenceShared();
    const bool rescaled = __any_sync(~0U, AddSums(shared.softmax[stage.slot], heads, sums));
    if (Lane() == 0) shared.rescaled[stage.slot] = rescaled ? 1 : 0;
    if (block + 1 == blocks) {
#pragma unroll
      for (int i = 0; i < 2; ++i) shared.sums[heads[i]] = sums[i];
    }
    ArriveOnce(&shared.announced[stage.slot]);
  }
}

// ---- math ----

// o (1 / sum) of a warpgroup's channels.
template <bool kFp8, int kParts>
__device__ void Accumulate(const LaunchedAttention& launched, int item, int part, int group,
                           ValueShared<kFp8, kParts>& shared) {
  using Split = Split<kFp8, kParts>;
  constexpr int kPanelsOfGroup = Split::kMathPanels;
  constexpr uint64_t kSixteenKeys = 16 * 128 / 16;
  const SparseAttention& work = launched.work;
  const int row = item / launched.head_groups;
  const int blocks = BlocksWithKeys(FirstPosition(work, row, 0, kMostBlocks));
  float o[32 * kPanelsOfGroup];
  float sums[2] = {};
  int before = 0;
  Ring<Split::kStages> stage;
  for (int block = 0; block < blocks; ++block) {
    const auto& softmax = shared.softmax[stage.slot];
    bool rescaled;
    if constexpr (Split::kAnnounces) {
      Wait(&shared.announced[stage.slot], stage.parity);
      rescaled = shared.rescaled[stage.slot] != 0;
    } else {
      Wait(&shared.full[stage.slot], stage.parity);
      // Here rather than where they are written: a fence waits for the thread's loads and copies under way.
      FenceShared();
      rescaled = AddSums(softmax, {HeadOf(0), HeadOf(1)}, sums);
    }
    if (block > 0 && __any_sync(~0U, rescaled)) {
      const float rescale[2] = {softmax.rescale[HeadOf(0)], softmax.rescale[HeadOf(1)]};
      WgmmaWait<0>();
      Pin(o);
#pragma unroll
      for (int i = 0; i < 32 * kPanelsOfGroup; ++i) o[i] = __fmul_rn(o[i], rescale[i % 4 / 2]);
      Pin(o);
    }
    const uint64_t weights = TileDescriptor(shared.panels[stage.slot][0]);
    const uint64_t values = ColumnsDescriptor(shared.panels[stage.slot][1 + group * kPanelsOfGroup]);
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < kBlockKeys / 16; ++k) {
      WgmmaBf16Columns(o, weights + 2 * k, values + k * kSixteenKeys, block > 0 || k > 0);
    }
    WgmmaCommit();
    if (block > 0) {
      WgmmaWait<1>();  // for the block before
      ArriveOnce(&shared.empty[before]);
    }
    before = stage.slot;
    stage.Next();
  }
  WgmmaWait<0>();
  Pin(o);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t head = item % launched.head_groups * kTileHeads + HeadOf(i);
    auto* to = static_cast<__nv_bfloat16*>(work.o_latent) + row * work.o_stride + head * kLatent +
               part * Split::kChannels + group * (64 * kPanelsOfGroup);
    const float factor = __frcp_rn(Split::kAnnounces ? shared.sums[HeadOf(i)] : sums[i]);
    StoreRow<8 * kPanelsOfGroup>(head < work.heads, to, [&](int j) -> float2 {
      if (blocks == 0) return {0.0F, 0.0F};
      return {__fmul_rn(o[4 * j + 2 * i], factor), __fmul_rn(o[4 * j + 2 * i + 1], factor)};
    });
  }
}

template <bool kFp8, int kParts>
__global__ void __launch_bounds__(Split<kFp8, kParts>::kThreads, 1)
    ValueKernel(const LaunchedAttention launched) {
  using Split = Split<kFp8, kParts>;
  extern __shared__ __align__(1024) uint8_t memory[];
  auto& shared = *reinterpret_cast<ValueShared<kFp8, kParts>*>(memory);
  const auto item = static_cast<int>(blockIdx.x) / kParts;
  const auto part = static_cast<int>(blockIdx.x) % kParts;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Split::kStages; ++i) {
      InitBarrier(&shared.full[i], kGatherArrivals<kFp8> + (Split::kWeighGroups > 0 ? 4 : 1));
      InitBarrier(&shared.announced[i], 1);
      InitBarrier(&shared.empty[i], Split::kMathThreads / 32);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  // The same in all lanes, which the compiler cannot know of threadIdx.
  const int warp = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 32, 0);
  const int group = warp / 4;
  const int row = item / launched.head_groups;
  constexpr bool kWeigh = Split::kWeighGroups > 0;
  if (group < Split::kGatherGroups) {
    if constexpr (kWeigh) GiveRegisters<Split::kGatherRegisters>();
    BringValues<kFp8, kParts>(launched.work, row, part, group, shared);
  } else if (group < Split::kGatherGroups + Split::kMathGroups) {
    if constexpr (kWeigh) GiveRegisters<Split::kMathRegisters>();
    Accumulate<kFp8, kParts>(launched, item, part, group - Split::kGatherGroups, shared);
  } else {
    if constexpr (kWeigh) TakeRegisters<Split::kWeighRegisters>();
    const int blocks = BlocksWithKeys(FirstPosition(launched.work, row, 0, kMostBlocks));
    if constexpr (kWeigh) {
      MakeWeights(launched, item, group - Split::kGatherGroups - Split::kMathGroups, blocks, shared);
    } else if (warp % 4 == 0) {
      BringWeights(launched, item, part, blocks, shared);
    } else {
      Announce(blocks, shared);
    }
  }
}

template <bool kFp8, int kParts>
cudaError_t LaunchAs(const LaunchedAttention& launched, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(ValueShared<kFp8, kParts>));
  static_assert(kBytes <= 227 * 1024);
  if (const cudaError_t error = cudaFuncSetAttribute(ValueKernel<kFp8, kParts>,
                                                     cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess) {
    return error;
  }
  const auto items = static_cast<unsigned>(launched.work.rows) * launched.head_groups;
  return LaunchBehind(ValueKernel<kFp8, kParts>, launched, items * kParts, Split<kFp8, kParts>::kThreads,
                      kBytes, stream);
}

template <bool kFp8>
cudaError_t LaunchFrom(const LaunchedAttention& launched, cudaStream_t stream) {
  if (launched.parts == 8) return LaunchAs<kFp8, 8>(launched, stream);
  if (launched.parts == 4) return LaunchAs<kFp8, 4>(launched, stream);
  return LaunchAs<kFp8, 2>(launched, stream);
}

}  // namespace

cudaError_t LaunchValues(const LaunchedAttention& launched, cudaStream_t stream) {
  return launched.work.format == CacheFormat::kFp8 ? LaunchFrom<true>(launched, stream)
                                                   : LaunchFrom<false>(launched, stream);
}

}  // namespace sluice::ops::cuda
