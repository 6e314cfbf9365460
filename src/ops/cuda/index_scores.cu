#include "ops/cuda/hopper.cuh"
#include "ops/cuda/index_scores_kernel.h"
#include "ops/cuda/ring.cuh"

// Five warpgroups on each SM. One thread of the first draws tiles (a group of rows x up to 32 pages) and has
// the copy engine bring the rows' queries and the pages, four at a time; each of the others multiplies one
// page of the four:
//
//   keys [64, 128] x (heads of the rows) [128, 128]^T -> relu, gates, sum over heads -> scores
namespace sluice::ops::cuda {
namespace {

constexpr int kMathGroups = 4;
constexpr int kThreads = 128 * (1 + kMathGroups);
constexpr int kMathWarps = 4 * kMathGroups;
constexpr int kPageKeys = 64;
constexpr int kKeyBytes = kPageKeys * 128;
constexpr int kQueryBytes = kQueryColumns * 128;
constexpr int kPageLines = 66;  // of 128 bytes: keys, then scales
constexpr int kStages = 4;
constexpr int kSlots = 2;

struct Tile {
  int32_t group = -1;  // -1: no tile is left
  int32_t first_page = 0;
  int32_t pages = 0;
};

struct Shared {
  alignas(1024) uint8_t queries[kSlots][kQueryBytes];
  alignas(1024) uint8_t keys[kStages][kMathGroups][kKeyBytes];
  alignas(16) float gates[kSlots][kQueryColumns];
  uint64_t full[kStages];
  uint64_t empty[kStages];
  uint64_t tile_full[kSlots];
  uint64_t tile_empty[kSlots];
  Tile tile[kSlots];
};

__device__ Tile TileNumber(const IndexScores& work, int32_t number) {
  if (number >= work.tiles) return {};
  int32_t low =
      0;  // the last group whose first tile is at or before this one; groups without tiles share theirs
  int32_t high = work.group_count;
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    if (work.groups[middle].first_tile <= number) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const int32_t first_page = (number - work.groups[low].first_tile) * kTilePages;
  return {low, first_page, min(kTilePages, work.groups[low].pages - first_page)};
}

__device__ void BringTiles(const IndexScores& work, int32_t* counter, const CUtensorMap* queries,
                           const CUtensorMap* keys, Shared& shared) {
  Ring<kStages> stage;
  Ring<kSlots> slot;
  const auto heads = static_cast<int32_t>(work.heads);
  for (auto fixed = static_cast<int32_t>(blockIdx.x);; fixed += static_cast<int32_t>(gridDim.x)) {
    const Tile tile = TileNumber(work, work.fixed_tiles ? fixed : atomicAdd(counter, 1));
    Wait(&shared.tile_empty[slot.slot], slot.parity ^ 1);
    shared.tile[slot.slot] = tile;
    if (tile.group < 0) {
      Arrive(&shared.tile_full[slot.slot]);
      return;
    }
    const QueryGroup group = work.groups[tile.group];
    const auto gate_bytes = static_cast<uint32_t>(group.rows * heads) * 4;
    ArriveExpecting(&shared.tile_full[slot.slot], kQueryBytes + gate_bytes);
    CopyBox(queries, shared.queries[slot.slot], &shared.tile_full[slot.slot], 0, group.row * heads);
    CopyBytes(work.gates + group.row * work.heads, shared.gates[slot.slot], gate_bytes,
              &shared.tile_full[slot.slot]);
    slot.Next();
    const int32_t* table = work.page_tables + group.sequence * work.table_stride + tile.first_page;
    for (int32_t page = 0; page < tile.pages; page += kMathGroups) {
      Wait(&shared.empty[stage.slot], stage.parity ^ 1);
      const int32_t count = min(kMathGroups, tile.pages - page);
      ArriveExpecting(&shared.full[stage.slot], static_cast<uint32_t>(count) * kKeyBytes);
      for (int32_t i = 0; i < count; ++i) {
        CopyBox(keys, shared.keys[stage.slot][i], &shared.full[stage.slot], 0, table[page + i] * kPageLines);
      }
      stage.Next();
    }
  }
}

// max(0, value) that lets a NaN through, so that the selection can report it.
__device__ float Relu(float value) {
  float result;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(result) : "f"(value));
  return result;
}

// d holds key 16 warp + lane / 4 + 8 i of the page times column 8 j + 2 (lane % 4) + c, and the columns are
// the heads of row 0, then those of row 1, and so on.
template <int kHeads>
__device__ void ScorePage(const IndexScores& work, const QueryGroup& group, const float* gates,
                          int32_t page_index, int32_t page, const float (&d)[64]) {
  constexpr int kRowColumns = kHeads / 8;
  const int lane = static_cast<int>(threadIdx.x) % 128;
  const int quad = lane % 4;
  const float* scales = reinterpret_cast<const float*>(
      static_cast<const uint8_t*>(work.cache) + static_cast<int64_t>(page) * kPageLines * 128 + kKeyBytes);
  const int key = lane / 32 * 16 + lane % 32 / 4;
#pragma unroll
  for (int r = 0; r < kQueryColumns / kHeads; ++r) {
    float sum[2] = {0.0F, 0.0F};
#pragma unroll
    for (int j = r * kRowColumns; j < (r + 1) * kRowColumns; ++j) {
      const float2 gate = *reinterpret_cast<const float2*>(gates + 8 * j + 2 * quad);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        sum[i] = __fmaf_rn(gate.x, Relu(d[4 * j + 2 * i]), sum[i]);
        sum[i] = __fmaf_rn(gate.y, Relu(d[4 * j + 2 * i + 1]), sum[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sum[i] += __shfl_xor_sync(~0U, sum[i], 1);
      sum[i] += __shfl_xor_sync(~0U, sum[i], 2);
      // Each thread of the quad has the sum; one of them stores it.
      if (quad != r || r >= group.rows) continue;
      const int32_t position = page_index * kPageKeys + key + 8 * i;
      if (position > work.positions[group.row + r]) continue;
      work.scores[(group.row + r) * work.scores_stride + position] = sum[i] * scales[key + 8 * i] + 0.0F;
    }
  }
}

template <int kHeads>
__device__ void ScoreTiles(const IndexScores& work, int math_group, Shared& shared) {
  Ring<kStages> stage;
  Ring<kSlots> slot;
  const bool first_of_warp = threadIdx.x % 32 == 0;
  while (true) {
    Wait(&shared.tile_full[slot.slot], slot.parity);
    const Tile tile = shared.tile[slot.slot];
    if (tile.group < 0) return;
    const QueryGroup group = work.groups[tile.group];
    const int32_t* table = work.page_tables + group.sequence * work.table_stride + tile.first_page;
    for (int32_t page = 0; page < tile.pages; page += kMathGroups) {
      Wait(&shared.full[stage.slot], stage.parity);
      const bool has_page = page + math_group < tile.pages;
      float d[64];
      if (has_page) {
        const uint64_t keys = TileDescriptor(shared.keys[stage.slot][math_group]);
        const uint64_t queries = TileDescriptor(shared.queries[slot.slot]);
        Pin(d);
        WgmmaFence();
#pragma unroll
        for (int k = 0; k < 4; ++k) WgmmaE4M3(d, keys + 2 * k, queries + 2 * k, k > 0);
        WgmmaCommit();
        WgmmaWait<0>();
        Pin(d);
      }
      if (first_of_warp) Arrive(&shared.empty[stage.slot]);
      stage.Next();
      if (has_page) {
        ScorePage<kHeads>(work, group, shared.gates[slot.slot], tile.first_page + page + math_group,
                          table[page + math_group], d);
      }
    }
    if (first_of_warp) Arrive(&shared.tile_empty[slot.slot]);
    slot.Next();
  }
}

__device__ void TellOfLaunch(LaunchRecord* record) {
  atomicAdd(&record->launches, 1);
  atomicMin(&record->fewest_blocks, static_cast<int32_t>(gridDim.x));
  atomicMax(&record->most_blocks, static_cast<int32_t>(gridDim.x));
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
      InitBarrier(&shared.tile_full[i], 1);
      InitBarrier(&shared.tile_empty[i], kMathWarps);
    }
    FenceBarrierInit();
    PrefetchMap(&queries);
    PrefetchMap(&keys);
    if (blockIdx.x == 0 && work.record != nullptr) TellOfLaunch(work.record);
  }
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == 0) {
    GiveRegisters<24>();
    if (threadIdx.x == 0) BringTiles(work, counter, &queries, &keys, shared);
  } else {
    // The block holds 640 x 96 registers, what it was compiled for; taking more than are given back waits for
    // ever.
    static_assert(128 * 24 + 128 * kMathGroups * 112 <= kThreads * 96);
    TakeRegisters<112>();
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
  if (const cudaError_t error = cudaMemsetAsync(counter, 0, sizeof(int32_t), stream); error != cudaSuccess) {
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
