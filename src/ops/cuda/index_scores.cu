#include "ops/cuda/hopper.cuh"
#include "ops/cuda/index_scores_kernel.h"
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
constexpr int kPageLines = 66;                         // of 128 bytes: keys, then scales
constexpr int kPageBytes = kPageLines * 128;
constexpr int kPageRoom = 9 * 1024;  // a page in shared memory, where each begins at a multiple of 1,024
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

// hopper.cuh's, of the tile at this address of shared memory and its bytes 32 k of each row on; in 32 bits,
// for the sake of the instructions around a multiplication.
__device__ uint64_t TileDescriptor(uint32_t tile, uint32_t k) {
  constexpr uint64_t kHigh = 0x40000040;  // a swizzle of 128 bytes; eight rows are 1,024 bytes
  return kHigh << 32 | (((tile & 0x3ffffU) >> 4 | 0x10000U) + 2 * k);
}

// d = keys [64, 128] x queries [128, 128]^T, tiles at these addresses of shared memory; it is under way when
// this returns.
__device__ void Multiply(float (&d)[64], uint32_t keys, uint32_t queries) {
  Pin(d);
  WgmmaFence();
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k) WgmmaE4M3(d, TileDescriptor(keys, k), TileDescriptor(queries, k), k > 0);
  WgmmaCommit();
}
__device__ void WaitFor(float (&d)[64]) {
  WgmmaWait<0>();
  Pin(d);
}

// 2 max(0, value), exact, NaN for a NaN (so that the selection can report it): an addition, since the pipe of
// minima and maxima is half as wide and would be the kernel's bound.
__device__ float TwiceRelu(float value) { return __fadd_rn(value, fabsf(value)); }

// How a thread of a math warpgroup deals with products: it holds keys 16 warp + lane / 4 + 8 i of a page
// times columns 8 j + 2 (lane % 4) + c in d[4 j + 2 i + c], and the columns are the heads of row 0, then
// those of row 1, and so on. Of the sums of its quad (four threads, which hold the same keys) it stores those
// of the rows lane % 2 + 2 m and of key i = lane / 2 % 2.
template <int kHeads>
class Summer {
 public:
  static constexpr int kRows = kColumns / kHeads;

  // The tile's rows from first_row on.
  __device__ Summer(const IndexScores& work, const Tile& tile, const float* gates, int first_row) {
    const int lane = static_cast<int>(threadIdx.x) % 128;
    const int quad = lane % 4;
    const int key = lane / 32 * 16 + lane % 32 / 4 + 8 * (quad / 2);
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      const float2 gate = *reinterpret_cast<const float2*>(gates + first_row * kHeads + 8 * j + 2 * quad);
      half_gates_[2 * j] = 0.5F * gate.x;
      half_gates_[2 * j + 1] = 0.5F * gate.y;
    }
    const int32_t first = tile.first_page * kPageKeys + key;
#pragma unroll
    for (int m = 0; m < kRows / 2; ++m) {
      const int row = first_row + quad % 2 + 2 * m;
      scores_[m] = work.scores + (tile.row + row) * work.scores_stride + first;
      last_[m] = tile.last[row] - first;
    }
    odd_row_ = quad % 2 != 0;
    second_key_ = quad / 2 != 0;
    // Scales come as lines 64 and 65 of the swizzled page: line l holds its 16 bytes number c at c ^ l % 8.
    scale_ = static_cast<uint32_t>(kPageKeys * 128 + key / 32 * 128 + ((key % 32 / 4) ^ (key / 32)) * 16 +
                                   key % 4 * 4);
  }

  // Of the thread's key of the page at this address of shared memory.
  __device__ float Scale(uint32_t page) const {
    float scale;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(scale) : "r"(page + scale_) : "memory");
    return scale;
  }

  // The scores of page `page` of a stage.
  __device__ void Store(const float (&d)[64], float scale, int page) const {
    constexpr int kRowColumns = kHeads / 8;
    float sum[kRows][2] = {};
#pragma unroll
    for (int j = 0; j < kRowColumns; ++j) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int column = r * kRowColumns + j;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          sum[r][i] = __fmaf_rn(half_gates_[2 * column], TwiceRelu(d[4 * column + 2 * i]), sum[r][i]);
          sum[r][i] = __fmaf_rn(half_gates_[2 * column + 1], TwiceRelu(d[4 * column + 2 * i + 1]), sum[r][i]);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < kRows / 2; ++m) {
      float both[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float give = odd_row_ ? sum[2 * m][i] : sum[2 * m + 1][i];
        const float keep = odd_row_ ? sum[2 * m + 1][i] : sum[2 * m][i];
        both[i] = keep + __shfl_xor_sync(~0U, give, 1);
      }
      const float give = second_key_ ? both[0] : both[1];
      const float keep = second_key_ ? both[1] : both[0];
      const float all = keep + __shfl_xor_sync(~0U, give, 2);
      if (page * kPageKeys <= last_[m]) scores_[m][page * kPageKeys] = __fmaf_rn(all, scale, 0.0F);
    }
  }
  __device__ void NextStage() {
#pragma unroll
    for (int m = 0; m < kRows / 2; ++m) {
      scores_[m] += kStagePages * kPageKeys;
      last_[m] -= kStagePages * kPageKeys;
    }
  }

 private:
  float half_gates_[kColumns / 4];
  float* scores_[kRows / 2];  // of its key of the stage's first page
  int32_t last_[kRows / 2];   // how far from there the row sees
  uint32_t scale_;
  bool odd_row_;
  bool second_key_;
};

// The pages kFirst to kFirst + kCount of each stage of a tile.
template <int kHeads, int kFirst, int kCount>
__device__ void ScoreTile(int32_t pages, uint32_t queries, Summer<kHeads>& summer, Ring<kStages>& stage,
                          uint64_t* left, Shared& shared) {
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
    summer.NextStage();
    WaitFor(even);
  }
}

// `value` of the warp's first lane, which the compiler then knows to be the warp's.
__device__ int32_t OfWarp(int32_t value) { return __shfl_sync(~0U, value, 0); }

template <int kHeads>
__device__ void ScoreTiles(const IndexScores& work, int math_group, Shared& shared) {
  constexpr int kRows = Summer<kHeads>::kRows;
  Ring<kStages> stage;
  Ring<kSlots> slot;
  while (true) {
    Wait(&shared.queries_full[slot.slot], slot.parity);
    const Tile& tile = shared.tiles.tile[slot.slot];
    const int32_t pages = OfWarp(tile.pages);
    if (pages == 0) return;
    const bool wide = OfWarp(tile.rows) > kRows;
    const int part = wide ? math_group : 0;
    Summer<kHeads> summer(work, tile, shared.gates[slot.slot], part * kRows);
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
