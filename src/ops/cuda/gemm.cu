#include <cuda_bf16.h>

#include "ops/cuda/gemm.h"
#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/ring.cuh"

// A block of three warpgroups on each SM. One thread of the first draws tiles and has the copy engine bring
// the operands; the others compute 64 rows of the tile each.
//
//   tile drawn -> for each 128 bytes of k: x box, w box -> shared memory -> wgmma -> registers -> y
namespace sluice::ops::cuda {
namespace {

constexpr int kTileRows = 128;     // of x: 64 for each of two warpgroups
constexpr int kTileOutputs = 128;  // a whole block of weight scales
constexpr int kTileBytes = 128 * 128;
constexpr int kStages = 6;
constexpr int kTileSlots = 2;
constexpr int kMathThreads = 256;
constexpr int kThreads = 128 + kMathThreads;
constexpr int kWgmmaBytes = 32;  // of k in one wgmma, in either type

struct Tile {
  int32_t row = 0;     // first row of x and y
  int32_t end = 0;     // of the group; 0: no tile is left
  int32_t output = 0;  // first output
  int32_t weight = 0;
  int32_t batch = 0;
};

struct Shared {
  alignas(1024) uint8_t x[kStages][kTileBytes];
  alignas(1024) uint8_t w[kStages][kTileBytes];
  uint64_t full[kStages];
  uint64_t empty[kStages];
  uint64_t tile_full[kTileSlots];
  uint64_t tile_empty[kTileSlots];
  Tile tile[kTileSlots];
  int32_t tiles_before[kMostGroups + 1];  // row tiles of the groups before this one
};

__device__ int32_t RowTiles(const RowGroup& group) {
  return group.end > group.begin ? (group.end - group.begin + kTileRows - 1) / kTileRows : 0;
}

// A warp sums up the groups' row tiles.
__device__ void CountTiles(const LaunchedGemm& gemm, Shared& shared) {
  int32_t before = 0;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int begin = 0; begin < gemm.group_count; begin += 32) {
    const int group = begin + lane;
    int32_t sum = group < gemm.group_count ? RowTiles(gemm.groups[group]) : 0;
    const int32_t own = sum;
    for (int step = 1; step < 32; step *= 2) {
      const int32_t other = __shfl_up_sync(~0U, sum, step);
      if (lane >= step) sum += other;
    }
    if (group < gemm.group_count) shared.tiles_before[group] = before + sum - own;
    before += __shfl_sync(~0U, sum, 31);
  }
  if (lane == 0) shared.tiles_before[gemm.group_count] = before;
}

// Tiles are numbered with the rows fastest, so that blocks at work together share a weight's tile.
__device__ Tile TileNumber(const LaunchedGemm& gemm, const Shared& shared, int32_t number) {
  const int32_t output_tiles = (gemm.outputs + kTileOutputs - 1) / kTileOutputs;
  if (gemm.groups == nullptr) {
    const int32_t row_tiles = (gemm.rows + kTileRows - 1) / kTileRows;
    if (row_tiles == 0 || number / row_tiles >= output_tiles * gemm.batches) return {};
    const int32_t column = number / row_tiles;
    const int32_t batch = column / output_tiles;
    return {number % row_tiles * kTileRows, gemm.rows, column % output_tiles * kTileOutputs, batch, batch};
  }
  if (number >= shared.tiles_before[gemm.group_count] * output_tiles) return {};
  int32_t low = 0;  // the last group that begins at or before the tile
  int32_t high = gemm.group_count;
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    if (shared.tiles_before[middle] * output_tiles <= number) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const RowGroup group = gemm.groups[low];
  const int32_t inside = number - shared.tiles_before[low] * output_tiles;
  const int32_t row_tiles = RowTiles(group);
  return {group.begin + inside % row_tiles * kTileRows, group.end, inside / row_tiles * kTileOutputs,
          group.weight, 0};
}

__device__ void BringTiles(const LaunchedGemm& gemm, const CUtensorMap* x_map, const CUtensorMap* w_map,
                           Shared& shared) {
  Ring<kStages> stage;
  Ring<kTileSlots> slot;
  while (true) {
    const Tile tile = TileNumber(gemm, shared, atomicAdd(gemm.tiles, 1));
    Wait(&shared.tile_empty[slot.slot], slot.parity ^ 1);
    shared.tile[slot.slot] = tile;
    Arrive(&shared.tile_full[slot.slot]);
    slot.Next();
    if (tile.end == 0) return;
    for (int32_t block = 0; block < gemm.blocks; ++block) {
      Wait(&shared.empty[stage.slot], stage.parity ^ 1);
      ArriveExpecting(&shared.full[stage.slot], 2 * kTileBytes);
      CopyBox(x_map, shared.x[stage.slot], &shared.full[stage.slot],
              tile.batch * gemm.x_step + block * gemm.block_inputs, tile.row);
      CopyBox(w_map, shared.w[stage.slot], &shared.full[stage.slot], block * gemm.block_inputs,
              tile.weight * gemm.outputs + tile.output);
      stage.Next();
    }
  }
}

__device__ void Store(float* to, float first, float second) {
  *reinterpret_cast<float2*>(to) = {first, second};
}
__device__ void Store(__nv_bfloat16* to, float first, float second) {
  *reinterpret_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(first, second);
}
__device__ void Store(float* to, float value) { *to = value; }
__device__ void Store(__nv_bfloat16* to, float value) { *to = __float2bfloat16_rn(value); }

// d = (accumulate ? d : 0) + the products over 128 bytes of k; d is there after the commit's wait.
template <bool kFp8>
__device__ void MultiplyBlock(uint64_t x, uint64_t w, bool accumulate, float (&d)[64]) {
  Pin(d);
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < 128 / kWgmmaBytes; ++k) {
    const uint64_t step = static_cast<uint64_t>(k) * kWgmmaBytes / 16;
    if constexpr (kFp8) {
      WgmmaE4M3(d, x + step, w + step, accumulate || k > 0);
    } else {
      WgmmaBf16(d, x + step, w + step, accumulate || k > 0);
    }
  }
  WgmmaCommit();
}

// acc = the sums over k of 64 rows of the tile, those of this warpgroup.
template <bool kFp8>
__device__ void Multiply(const LaunchedGemm& gemm, const Tile& tile, int half, Shared& shared,
                         Ring<kStages>& stage, float (&acc)[64]) {
  const int lane = static_cast<int>(threadIdx.x) % 128;
  [[maybe_unused]] const float* w_scales = nullptr;
  [[maybe_unused]] const float* x_scales[2] = {nullptr, nullptr};
  if constexpr (kFp8) {
    const int32_t row = tile.row + half * 64 + lane / 32 * 16 + lane % 32 / 4;
    const int32_t output_blocks = (gemm.outputs + 127) / 128;
    w_scales =
        gemm.w_scales + (static_cast<int64_t>(tile.weight) * output_blocks + tile.output / 128) * gemm.blocks;
    for (int i = 0; i < 2; ++i) {
      // A row beyond the group takes the last one's scale: its sums are not stored.
      x_scales[i] = gemm.x_scales + static_cast<int64_t>(min(row + 8 * i, tile.end - 1)) * gemm.blocks;
    }
#pragma unroll
    for (int i = 0; i < 64; ++i) acc[i] = 0.0F;
  }
  for (int32_t block = 0; block < gemm.blocks; ++block) {
    Wait(&shared.full[stage.slot], stage.parity);
    const uint64_t x = TileDescriptor(shared.x[stage.slot] + half * (kTileBytes / 2));
    const uint64_t w = TileDescriptor(shared.w[stage.slot]);
    if constexpr (kFp8) {
      float sum[64];
      MultiplyBlock<kFp8>(x, w, /*accumulate=*/false, sum);
      const float scale[2] = {x_scales[0][block] * w_scales[block], x_scales[1][block] * w_scales[block]};
      WgmmaWait<0>();
      Pin(sum);
      if (lane % 32 == 0) Arrive(&shared.empty[stage.slot]);
#pragma unroll
      for (int i = 0; i < 64; ++i) acc[i] = __fmaf_rn(sum[i], scale[i % 4 / 2], acc[i]);
    } else {
      MultiplyBlock<kFp8>(x, w, /*accumulate=*/block > 0, acc);
      WgmmaWait<0>();
      Pin(acc);
      if (lane % 32 == 0) Arrive(&shared.empty[stage.slot]);
    }
    stage.Next();
  }
}

template <typename T>
__device__ void StoreTile(const LaunchedGemm& gemm, const Tile& tile, int half, const float (&acc)[64]) {
  const int lane = static_cast<int>(threadIdx.x) % 128;
  const bool pairs = gemm.y_stride % 2 == 0 && gemm.outputs % 2 == 0 && gemm.y_step % 2 == 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int32_t row = tile.row + half * 64 + lane / 32 * 16 + lane % 32 / 4 + 8 * i;
    if (row >= tile.end) continue;
    T* y = static_cast<T*>(gemm.y) + row * gemm.y_stride + tile.batch * gemm.y_step;
#pragma unroll
    for (int j = 0; j < kTileOutputs / 8; ++j) {
      const int32_t output = tile.output + 8 * j + lane % 4 * 2;
      if (output >= gemm.outputs) continue;
      const float first = acc[4 * j + 2 * i];
      const float second = acc[4 * j + 2 * i + 1];
      if (pairs) {
        Store(y + output, first, second);
      } else {
        Store(y + output, first);
        if (output + 1 < gemm.outputs) Store(y + output + 1, second);
      }
    }
  }
}

template <bool kFp8, typename T>
__global__ void __launch_bounds__(kThreads, 1)
    GemmKernel(const LaunchedGemm gemm, const __grid_constant__ CUtensorMap x_map,
               const __grid_constant__ CUtensorMap w_map) {
  extern __shared__ uint8_t memory[];
  Shared& shared =
      *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(memory) + 1023) & ~uintptr_t{1023});
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      InitBarrier(&shared.full[i], 1);
      InitBarrier(&shared.empty[i], kMathThreads / 32);
    }
    for (int i = 0; i < kTileSlots; ++i) {
      InitBarrier(&shared.tile_full[i], 1);
      InitBarrier(&shared.tile_empty[i], kMathThreads);
    }
    FenceBarrierInit();
    PrefetchMap(&x_map);
    PrefetchMap(&w_map);
  }
  if (threadIdx.x < 32 && gemm.groups != nullptr) CountTiles(gemm, shared);
  __syncthreads();
  if (warpgroup == 0) {
    GiveRegisters<40>();
    if (threadIdx.x == 0) BringTiles(gemm, &x_map, &w_map, shared);
  } else {
    static_assert(128 * 40 + kMathThreads * 232 <= kThreads * 168);  // 168: what the block was compiled for
    TakeRegisters<232>();
    Ring<kStages> stage;
    Ring<kTileSlots> slot;
    while (true) {
      Wait(&shared.tile_full[slot.slot], slot.parity);
      const Tile tile = shared.tile[slot.slot];
      Arrive(&shared.tile_empty[slot.slot]);
      slot.Next();
      if (tile.end == 0) return;
      float acc[64];
      Multiply<kFp8>(gemm, tile, warpgroup - 1, shared, stage, acc);
      StoreTile<T>(gemm, tile, warpgroup - 1, acc);
    }
  }
}

template <bool kFp8, typename T>
cudaError_t LaunchAs(const LaunchedGemm& gemm, const CUtensorMap& x_map, const CUtensorMap& w_map, int sms,
                     cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared)) + 1024;
  // Each instantiation's limit is raised once on a device; doing it again costs nothing that shows.
  if (const cudaError_t error =
          cudaFuncSetAttribute(GemmKernel<kFp8, T>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess) {
    return error;
  }
  if (const cudaError_t error = cudaMemsetAsync(gemm.tiles, 0, sizeof(int32_t), stream);
      error != cudaSuccess) {
    return error;
  }
  GemmKernel<kFp8, T><<<static_cast<unsigned>(sms), kThreads, kBytes, stream>>>(gemm, x_map, w_map);
  return cudaGetLastError();
}

}  // namespace

cudaError_t Launch(const LaunchedGemm& gemm, const CUtensorMap& x_map, const CUtensorMap& w_map, int sms,
                   cudaStream_t stream) {
  if (gemm.fp8) {
    return gemm.y_is_bf16 ? LaunchAs<true, __nv_bfloat16>(gemm, x_map, w_map, sms, stream)
                          : LaunchAs<true, float>(gemm, x_map, w_map, sms, stream);
  }
  return gemm.y_is_bf16 ? LaunchAs<false, __nv_bfloat16>(gemm, x_map, w_map, sms, stream)
                        : LaunchAs<false, float>(gemm, x_map, w_map, sms, stream);
}

}  // namespace sluice::ops::cuda
