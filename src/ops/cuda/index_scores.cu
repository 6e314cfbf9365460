#include "ops/cuda/hopper.cuh"
#include "ops/cuda/index_scores_kernel.h"
#include "ops/cuda/index_sums.cuh"
#include "ops/cuda/index_tiles.cuh"
#include "ops/cuda/ring.cuh"

// Three warpgroups on each SM. A warp of the first draws tiles (index_tiles.cuh), another has the copy engine
// bring queries and pages, four pages at a time. The other two warpgroups multiply and sum:
//
//   keys of a page [64, 128] x (heads of rows) [128, 128]^T -> relu, gates, sum over heads -> scores
//
// Each has two pages under way, so that the tensor cores multiply one while it sums the other. A tile of many
// rows gives each of the two half of the rows and every page; one of few rows, all rows and half of the
// pages.
namespace sluice::ops::cuda {
namespace {

constexpr int kMathGroups = 2;
constexpr int kThreads = 128 * (1 + kMathGroups);
constexpr int kMathWarps = 4 * kMathGroups;
constexpr int kColumns = kQueryColumns / kMathGroups;  // of one product
constexpr int kStagePages = 4;
constexpr int kStages = 4;

struct Shared {
  alignas(1024) uint8_t queries[kSlots][kQueryColumns * 128];
  alignas(1024) uint8_t pages[kStages][kStagePages][kPageRoom];
  alignas(16) float gates[kSlots][kQueryColumns];
  uint64_t full[kStages];
  uint64_t empty[kStages];
  uint64_t queries_full[kSlots];
  Tiles tiles;
};

__device__ void BringTiles(const IndexScores& work, const CUtensorMap* queries, const CUtensorMap* keys,
                           Shared& shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Ring<kStages> stage;
  Ring<kSlots> slot;
  const auto heads = static_cast<int32_t>(work.heads);
  while (true) {
    Wait(&shared.tiles.drawn[slot.slot], slot.parity);
    const Tile& tile = shared.tiles.tile[slot.slot];
    uint64_t* queries_full = &shared.queries_full[slot.slot];
    if (tile.pages == 0) {
      if (lane == 0) Arrive(queries_full);
      return;
    }
    if (lane == 0) {
      const int32_t lines = tile.rows * heads;
      const int32_t boxes = (lines + kQueryBox - 1) / kQueryBox;
      const auto gate_bytes = static_cast<uint32_t>(lines) * 4;
      ArriveExpecting(queries_full, static_cast<uint32_t>(boxes) * kQueryBox * 128 + gate_bytes);
      for (int32_t i = 0; i < boxes; ++i) {
        CopyBox(queries, shared.queries[slot.slot] + i * kQueryBox * 128, queries_full, 0,
                tile.row * heads + i * kQueryBox);
      }
      CopyBytes(work.gates + tile.row * work.heads, shared.gates[slot.slot], gate_bytes, queries_full);
    }
    slot.Next();
    for (int32_t page = 0; page < tile.pages; page += kStagePages) {
      Wait(&shared.empty[stage.slot], stage.parity ^ 1);
      const int32_t count = min(kStagePages, tile.pages - page);
      if (lane == 0) ArriveExpecting(&shared.full[stage.slot], static_cast<uint32_t>(count) * kPageBytes);
      __syncwarp();
      if (lane < count) {
        CopyBox(keys, shared.pages[stage.slot][lane], &shared.full[stage.slot], 0,
                tile.page[page + lane] * kPageLines);
      }
      stage.Next();
    }
  }
}

// The pages kFirst to kFirst + kCount of each stage of a tile.
template <int kHeads, int kFirst, int kCount>
__device__ void ScoreTile(int32_t pages, uint32_t queries, Summer<kHeads, kColumns>& summer,
                          Ring<kStages>& stage, uint64_t* left, Shared& shared) {
  const bool first_of_warp = threadIdx.x % 32 == 0;
  float even[64];
  float odd[64];
  Wait(&shared.full[stage.slot], stage.parity);
  Multiply(even, SharedAddress(shared.pages[stage.slot][kFirst]), queries);
  WaitFor(even);
  while (true) {
    const auto& stage_pages = shared.pages[stage.slot];
    const uint32_t at = SharedAddress(stage_pages[kFirst]);
#pragma unroll
    for (int page = 0; page + 2 < kCount; page += 2) {
      Multiply(odd, at + (page + 1) * kPageRoom, queries);
      if (kFirst + page < pages) summer.Store(even, summer.Scale(at + page * kPageRoom), kFirst + page);
      WaitFor(odd);
      Multiply(even, at + (page + 2) * kPageRoom, queries);
      if (kFirst + page + 1 < pages)
        summer.Store(odd, summer.Scale(at + (page + 1) * kPageRoom), kFirst + page + 1);
      WaitFor(even);
    }
    constexpr int kLast = kFirst + kCount - 1;
    Multiply(odd, at + (kCount - 1) * kPageRoom, queries);
    if (kLast - 1 < pages) summer.Store(even, summer.Scale(at + (kCount - 2) * kPageRoom), kLast - 1);
    const float scale = summer.Scale(at + (kCount - 1) * kPageRoom);
    WaitFor(odd);
    if (first_of_warp) Arrive(&shared.empty[stage.slot]);
    stage.Next();
    pages -= kStagePages;
    if (pages <= 0) {
      if (first_of_warp) Arrive(left);
      if (kLast < pages + kStagePages) summer.Store(odd, scale, kLast);
      break;
    }
    Wait(&shared.full[stage.slot], stage.parity);
    Multiply(even, SharedAddress(shared.pages[stage.slot][kFirst]), queries);
    // Always so, but a branch keeps the multiplication together in front of the sum.
    int32_t before = pages + kStagePages;
    asm volatile("" : "+r"(before));
    if (kLast < before) summer.Store(odd, scale, kLast);
    summer.NextPages(kStagePages);
    WaitFor(even);
  }
}

// `value` of the warp's first lane, which the compiler then knows to be the warp's.
__device__ int32_t OfWarp(int32_t value) { return __shfl_sync(~0U, value, 0); }

template <int kHeads>
__device__ void ScoreTiles(const IndexScores& work, int math_group, Shared& shared) {
  constexpr int kRows = kColumns / kHeads;
  Ring<kStages> stage;
  Ring<kSlots> slot;
  while (true) {
    Wait(&shared.queries_full[slot.slot], slot.parity);
    const Tile& tile = shared.tiles.tile[slot.slot];
    const int32_t pages = OfWarp(tile.pages);
    if (pages == 0) return;
    const bool wide = OfWarp(tile.rows) > kRows;
    const int part = wide ? math_group : 0;
    Summer<kHeads, kColumns> summer(work, tile.row + part * kRows, tile.last + part * kRows, tile.first_page,
                                    shared.gates[slot.slot] + part * kColumns);
    const uint32_t queries = SharedAddress(shared.queries[slot.slot] + part * kColumns * 128);
    uint64_t* left = &shared.tiles.left[slot.slot];
    if (wide) {
      ScoreTile<kHeads, 0, 4>(pages, queries, summer, stage, left, shared);
    } else if (math_group == 0) {
      ScoreTile<kHeads, 0, 2>(pages, queries, summer, stage, left, shared);
    } else {
      ScoreTile<kHeads, 2, 2>(pages, queries, summer, stage, left, shared);
    }
    slot.Next();
  }
}

template <int kHeads>
__global__ void __launch_bounds__(kThreads, 1)
    ScoreKernel(const IndexScores work, int32_t* counter, const __grid_constant__ CUtensorMap queries,
                const __grid_constant__ CUtensorMap keys) {
  extern __shared__ uint8_t memory[];
  Shared& shared =
      *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      InitBarrier(&shared.full[i], 1);
      InitBarrier(&shared.empty[i], kMathWarps);
    }
    for (int i = 0; i < kSlots; ++i) {
      InitBarrier(&shared.tiles.drawn[i], 1);
      InitBarrier(&shared.queries_full[i], 1);
      InitBarrier(&shared.tiles.left[i], kMathWarps);
    }
    FenceBarrierInit();
    PrefetchMap(&queries);
    PrefetchMap(&keys);
    if (blockIdx.x == 0 && work.record != nullptr) TellOfLaunch(work.record);
  }
  CountPages(work, shared.tiles);
  __syncthreads();
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == 0) {
    GiveRegisters<40>();
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if (warp == 0) DrawTiles(work, counter, shared.tiles);
    if (warp == 1) BringTiles(work, &queries, &keys, shared);
  } else {
    // The block holds 384 x 168 registers, what it was compiled for; taking more than are given back waits
    // for ever.
    static_assert(128 * 40 + 128 * kMathGroups * 232 <= kThreads * 168);
    TakeRegisters<232>();
    ScoreTiles<kHeads>(work, warpgroup - 1, shared);
  }
}

template <int kHeads>
cudaError_t LaunchAs(const IndexScores& work, int32_t* counter, const CUtensorMap& queries,
                     const CUtensorMap& keys, int sms, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared)) + 1024;
  if (const cudaError_t error =
          cudaFuncSetAttribute(ScoreKernel<kHeads>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess) {
    return error;
  }
  ScoreKernel<kHeads><<<static_cast<unsigned>(sms), kThreads, kBytes, stream>>>(work, counter, queries, keys);
  return cudaGetLastError();
}

}  // namespace

cudaError_t Launch(const IndexScores& work, TileCounter counter, const CUtensorMap& queries,
                   const CUtensorMap& keys, int sms, cudaStream_t stream) {
  return work.heads == 64 ? LaunchAs<64>(work, counter, queries, keys, sms, stream)
                          : LaunchAs<32>(work, counter, queries, keys, sms, stream);
}

}  // namespace sluice::ops::cuda
