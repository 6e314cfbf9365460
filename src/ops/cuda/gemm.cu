#include "ops/cuda/gemm.h"
#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/gemm_multiply.cuh"
#include "ops/cuda/gemm_row_waves.cuh"
#include "ops/cuda/gemm_stages.cuh"
#include "ops/cuda/gemm_store.cuh"
#include "ops/cuda/gemm_tiles.cuh"
#include "ops/cuda/hopper.cuh"
#include "ops/cuda/ring.cuh"

// A block of three warpgroups on each SM. One thread of the first draws tiles and has the copy engine bring
// the operands, another warp of it brings the scales; the others multiply, half of the rows or of the outputs
// each.
//
//   tile drawn -> for each 128 bytes of k: x box, w box -> shared memory -> wgmma -> registers -> y
namespace sluice::ops::cuda {
namespace {

// scale_x * scale_w of this thread's two rows, for each wave of kN outputs, which lies in one block of weight
// scales. A lane of four loads every fourth block of k, ahead of its use; the others get it from there.
template <int kN, int kWaves>
class Scales {
 public:
  static_assert(128 % kN == 0);

  // A row beyond the group takes the last one's scale: its sums are not stored.
  __device__ Scales(const LaunchedGemm& gemm, const Tile& tile, int32_t row, int32_t output) : gemm_(gemm) {
    const int32_t output_blocks = (gemm.outputs + 127) / 128;
    for (int i = 0; i < 2; ++i) x_[i] = min(row + 8 * i, tile.end - 1) * gemm.x_scales_stride;
#pragma unroll
    for (int wave = 0; wave < kWaves; ++wave) {
      const int32_t block = min((output + wave * kN) / 128, output_blocks - 1);
      w_[wave] = (tile.weight * output_blocks + block) * gemm.blocks;
    }
    Load(0);
  }
  // Blocks of k come in ascending order.
  __device__ void Of(int32_t block, float (&scale)[kWaves][2]) {
    if (block % 4 == 0) {
#pragma unroll
      for (int wave = 0; wave < kWaves; ++wave) {
        for (int i = 0; i < 2; ++i) product_[wave][i] = __fmul_rn(next_x_[i], next_w_[wave]);
      }
      Load(block + 4);
    }
#pragma unroll
    for (int wave = 0; wave < kWaves; ++wave) {
      for (int i = 0; i < 2; ++i) scale[wave][i] = __shfl_sync(~0U, product_[wave][i], block % 4, 4);
    }
  }

 private:
  __device__ void Load(int32_t block) {
    const int32_t mine = min(block + static_cast<int32_t>(threadIdx.x) % 4, gemm_.blocks - 1);
    for (int i = 0; i < 2; ++i) next_x_[i] = gemm_.x_scales[x_[i] + mine];
#pragma unroll
    for (int wave = 0; wave < kWaves; ++wave) next_w_[wave] = gemm_.w_scales[w_[wave] + mine];
  }

  const LaunchedGemm& gemm_;
  int32_t x_[2];
  int32_t w_[kWaves];
  float next_x_[2];
  float next_w_[kWaves];
  float product_[kWaves][2];
};

// The same from shared memory, for one wave.
template <typename Stages>
class BroughtScales {
 public:
  __device__ BroughtScales(int32_t blocks, Stages& stages) : blocks_(blocks), stages_(stages) {}
  __device__ void Of(int32_t block, float (&scale)[1][2]) { stages_.LoadScales(block, blocks_, scale[0]); }

 private:
  const int32_t blocks_;
  Stages& stages_;
};

// FP8, one wave: a block is promoted while the next one is multiplied.
template <int kN, typename Stages, typename WaveScales>
__device__ void SumAhead(int32_t blocks, Stages& stages, WaveScales&& scales, float (&acc)[1][kN / 2]) {
  float sum[2][kN / 2];
  float scale[2][1][2];
  const auto multiply = [&](int32_t block, int turn) {
    stages.WaitFull();
    MultiplyBlock<true>(stages.x(), stages.w(0), /*accumulate=*/false, sum[turn]);
    scales.Of(block, scale[turn]);
  };
  const auto promote = [&](int turn) {
    Pin(sum[turn]);
    stages.ReleaseLast();
    Promote(sum[turn], scale[turn][0], acc[0]);
    stages.Next();
  };
  multiply(0, 0);
  stages.Next();
  int32_t block = 1;
  for (; block + 1 < blocks; block += 2) {
    multiply(block, 1);
    WgmmaWait<1>();
    promote(0);
    multiply(block + 1, 0);
    WgmmaWait<1>();
    promote(1);
  }
  if (block < blocks) {
    multiply(block, 1);
    WgmmaWait<1>();
    promote(0);
    WgmmaWait<0>();
    Pin(sum[1]);
    Promote(sum[1], scale[1][0], acc[0]);
  } else {
    WgmmaWait<0>();
    Pin(sum[0]);
    Promote(sum[0], scale[0][0], acc[0]);
  }
  stages.ReleaseLast();
}

// FP8, several waves: there are no registers for a second sum, so each is promoted at once; meanwhile the
// tensor cores work for the other warpgroup.
template <int kN, int kWaves, typename Stages>
__device__ void SumInWaves(int32_t blocks, Stages& stages, Scales<kN, kWaves>& scales,
                           float (&acc)[kWaves][kN / 2]) {
  for (int32_t block = 0; block < blocks; ++block) {
    stages.WaitFull();
    float scale[kWaves][2];
#pragma unroll
    for (int wave = 0; wave < kWaves; ++wave) {
      float sum[kN / 2];
      MultiplyBlock<true>(stages.x(), stages.w(wave * kN), /*accumulate=*/false, sum);
      if (wave == 0) scales.Of(block, scale);
      WgmmaWait<0>();
      Pin(sum);
      if (wave == kWaves - 1) {
        stages.Next();
        stages.ReleaseLast();
      }
      Promote(sum, scale[wave], acc[wave]);
    }
  }
}

// bf16: the sum over all of k is made by the tensor cores.
template <int kN, typename Stages>
__device__ void SumBf16(int32_t blocks, Stages& stages, float (&acc)[1][kN / 2]) {
  stages.WaitFull();
  MultiplyBlock<false>(stages.x(), stages.w(0), /*accumulate=*/false, acc[0]);
  stages.Next();
  for (int32_t block = 1; block < blocks; ++block) {
    stages.WaitFull();
    MultiplyBlock<false>(stages.x(), stages.w(0), /*accumulate=*/true, acc[0]);
    WgmmaWait<1>();
    stages.ReleaseLast();
    stages.Next();
  }
  WgmmaWait<0>();
  Pin(acc[0]);
  stages.ReleaseLast();
}

// One warpgroup's part of a tile: 64 rows by kWaves * kN outputs.
template <bool kFp8, int kN, int kWaves, typename Stages>
__device__ void ComputeTile(const LaunchedGemm& gemm, const Tile& tile, Stages& stages) {
  const int32_t row = tile.row + stages.first_row();
  const int32_t output = tile.output + stages.first_output();
  float acc[kWaves][kN / 2];
  if constexpr (kFp8) {
#pragma unroll
    for (int wave = 0; wave < kWaves; ++wave) {
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) acc[wave][i] = 0.0F;
    }
    if constexpr (Stages::kBringsScales) {
      SumAhead<kN>(gemm.blocks, stages, BroughtScales<Stages>(gemm.blocks, stages), acc);
    } else {
      Scales<kN, kWaves> scales(gemm, tile, row, output);
      if constexpr (kWaves == 1) {
        SumAhead<kN>(gemm.blocks, stages, scales, acc);
      } else {
        SumInWaves<kN, kWaves>(gemm.blocks, stages, scales, acc);
      }
    }
  } else {
    SumBf16<kN>(gemm.blocks, stages, acc);
  }
#pragma unroll
  for (int wave = 0; wave < kWaves; ++wave) {
    StoreSums<kN>(gemm, tile, row, output + wave * kN, acc[wave]);
  }
}

template <bool kFp8, TileShape kShape>
__device__ void ComputeTiles(const LaunchedGemm& gemm, int warpgroup, int32_t rank, Shared<kShape>& shared) {
  // With bf16 nothing is promoted, and the waves are one.
  constexpr int kN = kFp8 ? kShape.n : kShape.n * kShape.waves;
  constexpr int kWaves = kFp8 ? kShape.waves : 1;
  constexpr bool kNarrows =
      kShape.row_groups == 2;  // a last tile with few outputs costs no more than they do
  FullStages<kShape> stages(shared, warpgroup, rank);
  Ring<kTileSlots> slot;
  while (true) {
    Wait(&shared.tile_full[slot.slot], slot.parity);
    const Tile& tile = shared.tile[slot.slot];
    if (tile.end == 0) return;
    const int32_t outputs = gemm.outputs - tile.output;
    if (kNarrows && kN * kWaves > 64 && outputs <= 64) {
      ComputeTile<kFp8, (kNarrows && kN > 64 ? 64 : kN), (kNarrows ? 1 : kWaves)>(gemm, tile, stages);
    } else if (kNarrows && kN * kWaves > 128 && outputs <= 128) {
      ComputeTile<kFp8, (kNarrows && kN > 128 ? 128 : kN), (kNarrows ? 1 : kWaves)>(gemm, tile, stages);
    } else {
      ComputeTile<kFp8, kN, kWaves>(gemm, tile, stages);
    }
    Arrive(&shared.tile_empty[slot.slot]);
    slot.Next();
  }
}

template <bool kFp8, int kIndex>
__global__ void __launch_bounds__(kThreads, 1)
    GemmKernel(const __grid_constant__ LaunchedGemm gemm, const __grid_constant__ CUtensorMap x_map,
               const __grid_constant__ CUtensorMap w_map) {
  constexpr TileShape kShape = kTileShapes[kIndex];
  // Rounded up here, its address would be a generic one, made in each thread's own registers, and so would
  // all that is reckoned from it, the descriptors of each wgmma included.
  extern __shared__ __align__(1024) uint8_t memory[];
  auto& shared = *reinterpret_cast<Shared<kShape>*>(memory);
  // The same in all lanes, which the compiler cannot know of threadIdx.
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  const auto rank = kShape.pair() ? static_cast<int32_t>(ClusterRank()) : 0;
  int32_t first = 0;
  if (threadIdx.x == 0) {
    if (rank == 0) {
      first =
          gemm.fixed_tiles ? static_cast<int32_t>(blockIdx.x) / kShape.blocks() : atomicAdd(gemm.tiles, 1);
    }
    PrefetchMap(&x_map);
    PrefetchMap(&w_map);
    InitBarriers<kFp8, kShape>(shared);
  }
  if (threadIdx.x < 32 && gemm.groups != nullptr) Tiles<kShape>::Count(gemm, shared.tiles_before);
  __syncthreads();
  if constexpr (kShape.pair()) MeetCluster();
  if (warpgroup == 0) {
    GiveRegisters<40>();
    const int warp = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 32, 0);
    first = __shfl_sync(~0U, first, 0);
    if (warp == 0 && Elected()) BringTiles<kShape>(gemm, &x_map, &w_map, rank, first, shared);
    if constexpr (kFp8 && kShape.brings_scales()) {
      if (warp == 1) BringScales<kShape>(gemm, shared);
    }
    __syncwarp();
  } else {
    static_assert(128 * 40 + kMathThreads * 232 <= kThreads * 168);  // 168: what the block was compiled for
    TakeRegisters<232>();
    if constexpr (kShape.row_waves > 1) {
      ComputeRowTiles<kFp8, kShape>(gemm, warpgroup - 1, shared);
    } else {
      ComputeTiles<kFp8, kShape>(gemm, warpgroup - 1, rank, shared);
    }
  }
  // The other block may still write into this one's memory, or arrive there.
  if constexpr (kShape.pair()) MeetCluster();
}

template <bool kFp8, int kIndex>
cudaError_t LaunchAs(const LaunchedGemm& gemm, const CUtensorMap& x_map, const CUtensorMap& w_map, int sms,
                     cudaStream_t stream) {
  constexpr TileShape kShape = kTileShapes[kIndex];
  constexpr int kBytes = static_cast<int>(sizeof(Shared<kShape>));
  static_assert(kBytes <= kSharedBytes);
  // Each instantiation's limit is raised once on a device; doing it again costs nothing that shows.
  if (const cudaError_t error =
          cudaFuncSetAttribute(GemmKernel<kFp8, kIndex>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
      error != cudaSuccess) {
    return error;
  }
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kShape.blocks(), 1, 1};
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(sms / kShape.blocks() * kShape.blocks()));
  launch.blockDim = dim3(kThreads);
  launch.dynamicSmemBytes = kBytes;
  launch.stream = stream;
  launch.attrs = &cluster;
  launch.numAttrs = kShape.pair() ? 1 : 0;
  return cudaLaunchKernelEx(&launch, GemmKernel<kFp8, kIndex>, gemm, x_map, w_map);
}

template <int kIndex>
cudaError_t LaunchFrom(const LaunchedGemm& gemm, int shape, const CUtensorMap& x_map,
                       const CUtensorMap& w_map, int sms, cudaStream_t stream) {
  if constexpr (kIndex < kTileShapeCount) {
    if (shape != kIndex) return LaunchFrom<kIndex + 1>(gemm, shape, x_map, w_map, sms, stream);
    return gemm.fp8 ? LaunchAs<true, kIndex>(gemm, x_map, w_map, sms, stream)
                    : LaunchAs<false, kIndex>(gemm, x_map, w_map, sms, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t Launch(const LaunchedGemm& gemm, int shape, const CUtensorMap& x_map, const CUtensorMap& w_map,
                   int sms, cudaStream_t stream) {
  return LaunchFrom<0>(gemm, shape, x_map, w_map, sms, stream);
}

}  // namespace sluice::ops::cuda
