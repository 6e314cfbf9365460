#include "ops/cuda/gemm.h"
#include "ops/cuda/gemm_launch.h"
#include "ops/cuda/gemm_one_sum.cuh"
#include "ops/cuda/gemm_one_wave.cuh"
#include "ops/cuda/gemm_stages.cuh"
#include "ops/cuda/gemm_tiles.cuh"
#include "ops/cuda/hopper.cuh"

// A block of two or three warpgroups on each SM. One thread of the first draws tiles and has the copy engine
// bring the operands, another warp of it brings the scales; the other warpgroup multiplies, or each of two
// does for half of the rows or of the outputs.
//
//   tile drawn -> for each 128 bytes of k: x box, w box -> shared memory -> wgmma -> registers -> y
namespace sluice::ops::cuda {
namespace {

template <bool kFp8, int kIndex>
__global__ void __launch_bounds__(kTileShapes[kIndex].threads(), 1)
    GemmKernel(const __grid_constant__ LaunchedGemm gemm, const __grid_constant__ CUtensorMap x_map,
               const __grid_constant__ CUtensorMap w_map) {
  constexpr TileShape kShape = kTileShapes[kIndex];
  // Rounded up here, its address would be a generic one, made in each thread's own registers, and so would
  // all that is reckoned from it, the descriptors of each wgmma included.
  extern __shared__ __align__(1024) uint8_t memory[];
  auto& shared = *reinterpret_cast<Shared<kShape>*>(memory);
  // The same in all lanes, which the compiler cannot know of threadIdx.
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  const auto rank = kShape.clustered() ? static_cast<int32_t>(ClusterRank()) : 0;
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
  if constexpr (kShape.clustered()) MeetCluster();
  if (warpgroup == 0) {
    if constexpr (kShape.warpgroups == 2) GiveRegisters<40>();
    const int warp = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 32, 0);
    first = __shfl_sync(~0U, first, 0);
    if (warp == 0 && Elected()) BringTiles<kShape>(gemm, &x_map, &w_map, rank, first, shared);
    if constexpr (kFp8) {
      if (warp == 1) BringScales<kShape>(gemm, shared);
    }
    __syncwarp();
  } else {
    if constexpr (kShape.warpgroups == 2) {
      static_assert(128 * 40 + 256 * 232 <= 384 * 168);  // 168: what the block was compiled for
      TakeRegisters<232>();
    }
    if constexpr (kFp8 && kShape.one_sum()) {
      ComputeOneSumTiles<kShape>(gemm, warpgroup - 1, shared);
    } else {
      ComputeWaveTiles<kFp8, kShape>(gemm, warpgroup - 1, rank, shared);
    }
  }
  // The other block may still write into this one's memory, or arrive there.
  if constexpr (kShape.clustered()) MeetCluster();
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
  launch.blockDim = dim3(kShape.threads());
  launch.dynamicSmemBytes = kBytes;
  launch.stream = stream;
  launch.attrs = &cluster;
  launch.numAttrs = kShape.clustered() ? 1 : 0;
  return cudaLaunchKernelEx(&launch, GemmKernel<kFp8, kIndex>, gemm, x_map, w_map);
}

template <int kIndex>
cudaError_t LaunchFrom(const LaunchedGemm& gemm, int shape, const CUtensorMap& x_map,
                       const CUtensorMap& w_map, int sms, cudaStream_t stream) {
  if constexpr (kIndex < kTileShapeCount) {
    if (shape != kIndex) return LaunchFrom<kIndex + 1>(gemm, shape, x_map, w_map, sms, stream);
    if constexpr (kTileShapes[kIndex].fp8) {
      if (gemm.fp8) return LaunchAs<true, kIndex>(gemm, x_map, w_map, sms, stream);
    }
    if constexpr (kTileShapes[kIndex].bf16) {
      if (!gemm.fp8) return LaunchAs<false, kIndex>(gemm, x_map, w_map, sms, stream);
    }
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t Launch(const LaunchedGemm& gemm, int shape, const CUtensorMap& x_map, const CUtensorMap& w_map,
                   int sms, cudaStream_t stream) {
  return LaunchFrom<0>(gemm, shape, x_map, w_map, sms, stream);
}

}  // namespace sluice::ops::cuda
