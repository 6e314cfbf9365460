#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/gemm.h"

// Between gemm.cc, which checks and describes the operands and chooses the tile, and the kernel in gemm.cu.
namespace sluice::ops::cuda {

// What a block computes at a time with its math warpgroups. It changes no bit: an element is made by the
// same instructions, of some n, in any of them.
struct TileShape {
  bool fp8 = false;  // the types that it is for
  bool bf16 = false;
  int warpgroups = 2;   // that multiply, one below the other, 64 rows each
  int row_waves = 1;    // of 64 * warpgroups rows, one after the other in each warpgroup; 2: FP8 only
  int n = 128;          // outputs, of the tile and of one wgmma
  bool below = false;   // a cluster of two blocks one below the other, each of which brings half of w to both
  bool beside = false;  // a cluster of two blocks side by side, each of which brings half of x to both

  __host__ __device__ constexpr int rows() const { return 64 * warpgroups * row_waves; }
  __host__ __device__ constexpr int outputs() const { return n; }
  __host__ __device__ constexpr bool pair() const { return below || beside; }
  __host__ __device__ constexpr int blocks() const { return pair() ? 2 : 1; }
  __host__ __device__ constexpr int math_threads() const { return 128 * warpgroups; }
  __host__ __device__ constexpr int threads() const { return 128 + math_threads(); }
  // Of the cluster.
  __host__ __device__ constexpr int all_rows() const { return below ? 2 * rows() : rows(); }
  __host__ __device__ constexpr int all_outputs() const { return beside ? 2 * outputs() : outputs(); }
  // Rows of x and of w that a block brings at once.
  __host__ __device__ constexpr int x_box() const { return beside ? rows() / 2 : rows(); }
  __host__ __device__ constexpr int w_box() const { return below ? outputs() / 2 : outputs(); }
  // Blocks of k that are brought, waited for and freed at once.
  __host__ __device__ constexpr int stage_blocks() const { return n <= 64 ? 2 : 1; }
};

// The tile of a block, rows x outputs.
inline constexpr TileShape kTileShapes[] = {
    {.fp8 = true, .row_waves = 2, .beside = true},          // 256 x 128, of a pair 256 x 256
    {.bf16 = true, .n = 256, .below = true},                // 128 x 256, of a pair 256 x 256
    {.fp8 = true, .bf16 = true},                            // 128 x 128
    {.fp8 = true, .n = 64},                                 // 128 x 64
    {.fp8 = true, .bf16 = true, .warpgroups = 1},           // 64 x 128
    {.fp8 = true, .bf16 = true, .warpgroups = 1, .n = 64},  // 64 x 64
    {.fp8 = true, .warpgroups = 1, .n = 32},                // 64 x 32
    {.fp8 = true, .bf16 = true, .warpgroups = 1, .n = 16},  // 64 x 16
};
inline constexpr int kTileShapeCount = static_cast<int>(sizeof(kTileShapes) / sizeof(TileShape));

// Gemm as the kernel sees it; the operands are in the tensor maps.
struct LaunchedGemm {
  bool fp8 = true;
  bool y_is_bf16 = true;
  int32_t rows = 0;
  int32_t outputs = 0;
  int32_t blocks = 0;        // of 128 bytes along k
  int32_t block_inputs = 0;  // inputs of one: 128 or 64
  int32_t batches = 1;
  int32_t x_step = 0;
  int32_t x_box = 0;  // rows that a copy of x brings; fewer than the tile's x_box() where there are no more
  int64_t y_step = 0;
  const float* x_scales = nullptr;
  int32_t x_scales_stride = 0;
  const float* w_scales = nullptr;
  void* y = nullptr;
  int64_t y_stride = 0;
  const RowGroup* groups = nullptr;
  int32_t group_count = 0;
  int32_t* tiles = nullptr;  // 0 before and after
  bool fixed_tiles = false;
};

// With tiles of kTileShapes[shape], whose boxes the maps have, on at most `sms` blocks.
cudaError_t Launch(const LaunchedGemm& gemm, int shape, const CUtensorMap& x_map, const CUtensorMap& w_map,
                   int sms, cudaStream_t stream);

// Whether kTileShapes[shape] is for x and w of `type`.
constexpr bool IsFor(int shape, DType type) {
  return type == DType::kF8E4M3 ? kTileShapes[shape].fp8 : kTileShapes[shape].bf16;
}

// Enqueue (gemm.h) with a tile that is not the one it would choose, for tests and benchmarks; IsFor(shape,
// gemm.type). A shape whose blocks come in pairs needs two SMs and leaves an odd one idle.
cudaError_t EnqueueWithShape(const Gemm& gemm, int shape, TileCounter tiles, int sms, cudaStream_t stream);

}  // namespace sluice::ops::cuda
