#include <cuda_bf16.h>

#include <cmath>

#include "ops/cuda/attention_math.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/latent_gather.cuh"
#include "ops/cuda/ring.cuh"
#include "ops/cuda/sparse_attention_launch.h"
#include "ops/cuda/sparse_attention_slots.cuh"

// Few rows: kParts blocks, a cluster, for 64 heads of a row. First they deal the keys out: each scores every
// kParts-th block of 64 keys and tells the others its largest scores, from which all know what the weights
// are relative to. Then they deal the channels out: each multiplies all weights, which go by way of memory,
// with its channels of all values, in the order in which one block would. So the sums are those of
// sparse_attention.cu, bit for bit.
namespace sluice::ops::cuda {
namespace {

constexpr int kMathThreads = 256;
constexpr int kThreads = kGatherThreads + kMathThreads;
constexpr int kMathWarps = kMathThreads / 32;
constexpr int kMostBlocks = static_cast<int>(kMostAttended) / kBlockKeys;
constexpr int kMostPanels = 2;  // of values in one block

constexpr int kPanelsInSlots = kBlockSlots * kPanels;
constexpr int kMostStages = kPanelsInSlots / 2;

// In place of the queries, when the scores are there.
struct AfterScores {
  float sums[kMostBlocks][kTileHeads];     // of each block's weights
  float rescale[kMostBlocks][kTileHeads];  // what the blocks before are multiplied with
  int32_t rows[kGatherWarps][kMostBlocks * kWarpKeys];
  float scales[kMostStages][kBlockKeys];  // of codes
};
struct Shared {
  alignas(1024) uint8_t queries[kPanels][kPanelBytes];
  KeySlots keys;  // when the scores are there: stages, each the weights of 64 keys and 1 or 2 panels of their
                  // values
  float largest[kMostBlocks][kTileHeads];  // exponent, of each block
  uint64_t queries_full;
  uint64_t queries_empty;
  uint64_t stage_full[kMostStages];
  uint64_t stage_empty[kMostStages];

  __device__ AfterScores& after_scores() { return *reinterpret_cast<AfterScores*>(queries[0]); }
};
static_assert(sizeof(AfterScores) <= sizeof(Shared::queries));

template <int kParts>
struct Split {
  static constexpr int kChannels = static_cast<int>(kLatent) / kParts;
  static constexpr int kValuePanels = kChannels / 64;
  static constexpr int kStagePanels = 1 + kValuePanels;
  static constexpr int kStages = kPanelsInSlots / kStagePanels;
  static constexpr int kOwnBlocks = kMostBlocks / kParts;
  static_assert(kValuePanels <= kMostPanels && kStages <= kMostStages);
};

__device__ uint8_t* WeightsOf(const LaunchedAttention& launched, int item, int block) {
  return launched.weights + (int64_t{item} * kMostBlocks + block) * kPanelBytes;
}

// ---- bringing ----

// The rows of all keys, into shared memory: a warp's own.
__device__ void FindRows(const SparseAttention& work, const Tile& tile, int32_t* rows, uint64_t* may_write) {
  constexpr int kEach = kMostBlocks * kWarpKeys / 32;
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int32_t* selection = work.selection + tile.row * work.selection_stride;
  const int32_t* pages = work.page_tables + work.sequences[tile.row] * work.table_stride;
  int32_t found[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int ordinal = (2 * i + lane / kWarpKeys) * kBlockKeys + warp * kWarpKeys + lane % kWarpKeys;
    found[i] = ordinal < tile.keys ? __ldg(selection + ordinal) : -1;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    constexpr int32_t kPage = static_cast<int32_t>(kPageTokens);
    if (found[i] >= 0) found[i] = __ldg(pages + found[i] / kPage) * kPage + found[i] % kPage;
  }
  Wait(may_write, 0);
#pragma unroll
  for (int i = 0; i < kEach; ++i) rows[32 * i + lane] = found[i];
  __syncwarp();
}

// Some channels of a warp's 16 keys, as bf16.
template <int kParts>
__device__ void BringValuePanels(const SparseAttention& work, const int32_t* rows, int part,
                                 uint8_t (*panels)[kPanelBytes], uint64_t* full) {
  constexpr int kLanes = 8 * Split<kParts>::kValuePanels;  // for one key
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int piece = lane % kLanes;
  const uint8_t* from =
      static_cast<const uint8_t*>(work.latents) + 2 * part * Split<kParts>::kChannels + 16 * piece;
#pragma unroll
  for (int i = 0; i < kWarpKeys * kLanes / 32; ++i) {
    const int key = i * (32 / kLanes) + lane / kLanes;
    const int32_t row = rows[key];
    CopySixteen(from + max(row, 0) * (2 * kLatentWidth),
                panels[piece / 8] + PlaceInPanel(warp * kWarpKeys + key, piece % 8), row >= 0);
  }
  ArriveAfterCopies(full);
}

// The same of codes, which DequantizePanels takes from the last of the panels.
template <int kParts>
__device__ void BringCodesOfPart(const SparseAttention& work, const int32_t* rows, int part,
                                 uint8_t (*panels)[kPanelBytes], float* scales) {
  constexpr int kWide = Split<kParts>::kValuePanels;
  constexpr int kLanes = 4 * kWide;  // for one key
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const auto* latents = static_cast<const uint8_t*>(work.latents);
  const int channel = part * Split<kParts>::kChannels;
#pragma unroll
  for (int i = 0; i < kWarpKeys * kLanes / 32; ++i) {
    const int key = i * (32 / kLanes) + lane / kLanes;
    const int32_t row = rows[key];
    CopySixteen(latents + int64_t{max(row, 0)} * kCodesRowBytes + channel + 16 * (lane % kLanes),
                panels[kWide - 1] + PlaceInPanel(warp * kWarpKeys + key, lane % kLanes), row >= 0);
  }
  if (lane < kWarpKeys) {
    const int32_t row = rows[lane];
    CopyFour(latents + int64_t{max(row, 0)} * kCodesRowBytes + kLatent + channel / kQuantBlock * 4,
             scales + warp * kWarpKeys + lane, row >= 0);
  }
}

template <bool kFp8, int kParts>
__device__ void Bring(const LaunchedAttention& launched, const Tile& tile, int item, int part,
                      Shared& shared) {
  using Split = Split<kParts>;
  const SparseAttention& work = launched.work;
  const int warp = static_cast<int>(threadIdx.x / 32);
  BringQueries<kGatherWarps>(work, tile, shared.queries, &shared.queries_full);
  const int blocks = (tile.keys + kBlockKeys - 1) / kBlockKeys;
  const int own_blocks = (blocks - part + kParts - 1) / kParts;
  Ring<kBlockSlots> block;
  const KeyRows own_rows(work, tile, part, kParts);
  if constexpr (kFp8) {
    BringCodes(work, own_rows, own_blocks, block, shared.keys);
  } else {
    BringValues(work, own_rows, own_blocks, block, shared.keys);
  }
  WaitForCluster();
  ArriveAtCluster();
  int32_t* rows = shared.after_scores().rows[warp];
  FindRows(work, tile, rows, &shared.queries_empty);
  for (int i = 0; i < kBlockSlots; ++i) {
    for (int half = 0; half < 2; ++half) Wait(&shared.keys.empty[block.slot][half], block.parity ^ 1);
    block.Next();
  }

  uint8_t(*panels)[kPanelBytes] = shared.keys.panels[0];
  Ring<Split::kStages> stage;
  const int early = min(blocks, Split::kStages);  // values that come before the weights are there
  const auto bring_weights = [&](int number, int slot) {
    ArriveExpecting(&shared.stage_full[slot], kPanelBytes);
    CopyBytes(WeightsOf(launched, item, number), panels[slot * Split::kStagePanels], kPanelBytes,
              &shared.stage_full[slot]);
  };
  const auto others_are_ready = [&] {
    WaitForCluster();
    ArriveAtCluster();
    WaitForCluster();
    if (threadIdx.x == 0) {
      FenceAsync();
      for (int i = 0; i < early; ++i) bring_weights(i, i);
    }
  };
  const auto open_stage = [&](int number) {
    if (number == early) others_are_ready();
    Wait(&shared.stage_empty[stage.slot], stage.parity ^ 1);
    if (number >= early && threadIdx.x == 0) bring_weights(number, stage.slot);
    return panels + stage.slot * Split::kStagePanels + 1;
  };
  if constexpr (kFp8) {
    constexpr int kAhead = 4;
    // A stage is left when the math is at the next block, which has to be dequantised by then.
    static_assert(kAhead <= Split::kStages - 2);
    const auto bring = [&](int number) {
      if (number < blocks) {
        BringCodesOfPart<kParts>(work, rows + number * kWarpKeys, part, open_stage(number),
                                 shared.after_scores().scales[stage.slot]);
        stage.Next();
      }
      EndCopyGroup();
    };
    for (int number = 0; number < kAhead; ++number) bring(number);
    Ring<Split::kStages> ready;
    for (int number = 0; number < blocks; ++number) {
      bring(number + kAhead);
      WaitForCopyGroups<kAhead>();
      __syncwarp();
      uint8_t(*values)[kPanelBytes] = panels + ready.slot * Split::kStagePanels + 1;
      const float* scales = shared.after_scores().scales[ready.slot];
      DequantizePanels<Split::kValuePanels>(values + Split::kValuePanels - 1, values,
                                            [&](int key, int) { return scales[key]; });
      FenceShared();
      Arrive(&shared.stage_full[ready.slot]);
      ready.Next();
    }
  } else {
    for (int number = 0; number < blocks; ++number) {
      uint8_t(*values)[kPanelBytes] = open_stage(number);
      BringValuePanels<kParts>(work, rows + number * kWarpKeys, part, values, &shared.stage_full[stage.slot]);
      stage.Next();
    }
  }
  if (blocks == early) others_are_ready();
}

// ---- math ----

// Scores of the warpgroup's own blocks, and their largest to all blocks of the cluster.
template <int kParts>
__device__ void Score(float exponent_scale, int half, int part, int32_t keys, Shared& shared,
                      float (&s)[Split<kParts>::kOwnBlocks / 2][32]) {
#pragma unroll
  for (int i = 0; i < Split<kParts>::kOwnBlocks / 2; ++i) {
    const int block = part + (2 * i + half) * kParts;
    if (block * kBlockKeys >= keys) continue;
    const Ring<kBlockSlots> slot = {half, static_cast<uint32_t>(i % 2)};
    ScoreBlock(slot, shared.queries, shared.keys, s[i]);
    __syncwarp();
    if (Lane() == 0) {
      Arrive(&shared.keys.empty[half][0]);
      Arrive(&shared.keys.empty[half][1]);
    }
    if (keys - block * kBlockKeys < kBlockKeys) MaskScores(keys - block * kBlockKeys, s[i]);
    for (int j = 0; j < 2; ++j) {
      const float largest = __fmul_rn(LargestOfBlock(s[i], j), exponent_scale);
      for (int to = Lane() % 4; to < kParts; to += 4) {
        StoreAt(static_cast<uint32_t>(to), &shared.largest[block][HeadOf(j)], largest);
      }
    }
  }
  __syncwarp();
  if (Lane() == 0) Arrive(&shared.queries_empty);
}

// Their weights to memory, and the weights' sums to all blocks of the cluster.
template <int kParts>
__device__ void Weigh(const LaunchedAttention& launched, int item, int half, int part, int32_t keys,
                      Shared& shared, const float (&s)[Split<kParts>::kOwnBlocks / 2][32]) {
  float reference[2] = {-INFINITY, -INFINITY};
  int next = 0;
#pragma unroll
  for (int i = 0; i < Split<kParts>::kOwnBlocks / 2; ++i) {
    const int block = part + (2 * i + half) * kParts;
    if (block * kBlockKeys >= keys) continue;
    for (; next <= block; ++next) {
      for (int j = 0; j < 2; ++j) reference[j] = NextReference(reference[j], shared.largest[next][HeadOf(j)]);
    }
    uint32_t weights[16];
    uint8_t* panel = WeightsOf(launched, item, block);
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      weights[j] = Weights(s[i][2 * j], s[i][2 * j + 1], launched.exponent_scale, reference[j % 2]);
      *reinterpret_cast<uint32_t*>(panel + PlaceInPanel(HeadOf(j % 2), j / 2) + 4 * (Lane() % 4)) =
          weights[j];
    }
    for (int j = 0; j < 2; ++j) {
      const float sum = SumOfBlock(weights, j);
      for (int to = Lane() % 4; to < kParts; to += 4) {
        StoreAt(static_cast<uint32_t>(to), &shared.after_scores().sums[block][HeadOf(j)], sum);
      }
    }
  }
  FenceAsync();
}

// o (1 / sum) of 64 channels.
template <int kParts>
__device__ void Accumulate(const LaunchedAttention& launched, const Tile& tile, int half, int part,
                           Shared& shared) {
  using Split = Split<kParts>;
  uint8_t(*panels)[kPanelBytes] = shared.keys.panels[0];
  const int blocks = (tile.keys + kBlockKeys - 1) / kBlockKeys;
  AfterScores& softmax = shared.after_scores();
  float reference[2] = {-INFINITY, -INFINITY};
  float sums[2] = {};
  uint32_t rescaled = 0;  // bits of the blocks before which any of the warp's heads is
  for (int block = 0; block < blocks; ++block) {
    bool any = false;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int head = HeadOf(i);
      const float next = NextReference(reference[i], shared.largest[block][head]);
      const float rescale = Exp2(reference[i] - next);
      reference[i] = next;
      sums[i] = __fmaf_rn(sums[i], rescale, softmax.sums[block][head]);
      softmax.rescale[block][head] = rescale;
      any = any || rescale != 1.0F;
    }
    if (__any_sync(~0U, block > 0 && any)) rescaled |= 1U << block;
  }

  constexpr uint64_t kSixteenKeys = 16 * 128 / 16;
  float o[32];
  Ring<Split::kStages> stage;
  int before = 0;
  for (int block = 0; block < blocks; ++block) {
    Wait(&shared.stage_full[stage.slot], stage.parity);
    FenceShared();
    if ((rescaled >> block & 1) != 0) {
      WgmmaWait<0>();
      Pin(o);
      const float rescale[2] = {softmax.rescale[block][HeadOf(0)], softmax.rescale[block][HeadOf(1)]};
#pragma unroll
      for (int i = 0; i < 32; ++i) o[i] = __fmul_rn(o[i], rescale[i % 4 / 2]);
      Pin(o);
    }
    const uint64_t weights = TileDescriptor(panels[stage.slot * Split::kStagePanels]);
    const uint64_t values = ColumnsDescriptor(panels[stage.slot * Split::kStagePanels + 1 + half]);
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < kBlockKeys / 16; ++k) {
      WgmmaBf16Columns(o, weights + 2 * k, values + k * kSixteenKeys, block > 0 || k > 0);
    }
    WgmmaCommit();
    if (block > 0) {
      WgmmaWait<1>();  // for the block before
      __syncwarp();
      if (Lane() == 0) Arrive(&shared.stage_empty[before]);
    }
    before = stage.slot;
    stage.Next();
  }
  WgmmaWait<0>();
  Pin(o);
  const SparseAttention& work = launched.work;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t head = tile.head_group * kTileHeads + HeadOf(i);
    auto* to = static_cast<__nv_bfloat16*>(work.o_latent) + tile.row * work.o_stride + head * kLatent +
               part * Split::kChannels + half * 64;
    const float factor = __frcp_rn(sums[i]);
    StoreRow<8>(head < work.heads, to, [&](int j) -> float2 {
      return {__fmul_rn(o[4 * j + 2 * i], factor), __fmul_rn(o[4 * j + 2 * i + 1], factor)};
    });
  }
}

// A row without keys.
template <int kParts>
__device__ void WriteZeros(const SparseAttention& work, const Tile& tile, int part) {
  constexpr int kPairs = Split<kParts>::kChannels / 2;
  const auto heads = static_cast<int>(min(kTileHeads, work.heads - tile.head_group * kTileHeads));
  auto* o = static_cast<__nv_bfloat16*>(work.o_latent) + tile.row * work.o_stride +
            tile.head_group * kTileHeads * kLatent + part * Split<kParts>::kChannels;
  for (int i = static_cast<int>(threadIdx.x); i < heads * kPairs; i += kThreads) {
    *reinterpret_cast<uint32_t*>(o + i / kPairs * kLatent + i % kPairs * 2) = 0;
  }
}

template <bool kFp8, int kParts>
__global__ void __launch_bounds__(kThreads, 1) FewKernel(const LaunchedAttention launched) {
  extern __shared__ uint8_t memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory + (-SharedAddress(memory) & 1023U));
  const SparseAttention& work = launched.work;
  const auto item = static_cast<int>(blockIdx.x) / kParts;
  const auto part = static_cast<int>(ClusterRank());
  Tile tile{item / launched.head_groups, item % launched.head_groups, static_cast<int32_t>(work.top_k)};
  const int32_t* selection = work.selection + tile.row * work.selection_stride;
  if (selection[work.top_k - 1] < 0) tile.keys = CountKeys(selection, tile.keys);
  if (tile.keys == 0) {
    WriteZeros<kParts>(work, tile, part);
    return;
  }
  if (threadIdx.x == 0) {
    InitBarrier(&shared.queries_full, kGatherThreads);
    InitBarrier(&shared.queries_empty, kMathWarps);
    for (int i = 0; i < kBlockSlots; ++i) {
      for (int half = 0; half < 2; ++half) {
        InitBarrier(&shared.keys.full[i][half], kGatherThreads);
        InitBarrier(&shared.keys.empty[i][half], kMathWarps / 2);
      }
    }
    for (int i = 0; i < Split<kParts>::kStages; ++i) {
      InitBarrier(&shared.stage_full[i], kGatherThreads + 1);
      InitBarrier(&shared.stage_empty[i], kMathWarps / 2 * Split<kParts>::kValuePanels);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  ArriveAtCluster();
  const int warpgroup = static_cast<int>(threadIdx.x / 128);
  constexpr int kGatherRegisters = kFp8 ? 104 : 72;
  constexpr int kMathRegisters = kFp8 ? 200 : 216;
  static_assert(kGatherThreads * kGatherRegisters + kMathThreads * kMathRegisters <=
                kThreads * 168);  // 168: compiled for
  if (warpgroup == 0) {
    GiveRegisters<kGatherRegisters>();
    Bring<kFp8, kParts>(launched, tile, item, part, shared);
  } else {
    TakeRegisters<kMathRegisters>();
    const int half = warpgroup - 1;
    float s[Split<kParts>::kOwnBlocks / 2][32];
    WaitForCluster();
    Wait(&shared.queries_full, 0);
    Score<kParts>(launched.exponent_scale, half, part, tile.keys, shared, s);
    ArriveAtCluster();
    WaitForCluster();
    Weigh<kParts>(launched, item, half, part, tile.keys, shared, s);
    ArriveAtCluster();
    WaitForCluster();
    if (half < Split<kParts>::kValuePanels) Accumulate<kParts>(launched, tile, half, part, shared);
  }
}

template <bool kFp8, int kParts>
cudaError_t LaunchAs(const LaunchedAttention& launched, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared)) + 1024;
  static_assert(kBytes <= 227 * 1024);
  if (const cudaError_t error =
          cudaFuncSetAttribute(FewKernel<kFp8, kParts>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess) {
    return error;
  }
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kParts, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(launched.work.rows * launched.head_groups * kParts));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, FewKernel<kFp8, kParts>, launched);
}

}  // namespace

cudaError_t LaunchFew(const LaunchedAttention& launched, cudaStream_t stream) {
  const bool fp8 = launched.work.format == CacheFormat::kFp8;
  if (launched.parts == 8)
    return fp8 ? LaunchAs<true, 8>(launched, stream) : LaunchAs<false, 8>(launched, stream);
  return fp8 ? LaunchAs<true, 4>(launched, stream) : LaunchAs<false, 4>(launched, stream);
}

}  // namespace sluice::ops::cuda
