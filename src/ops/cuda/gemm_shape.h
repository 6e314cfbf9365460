#pragma once

#include "ops/cuda/gemm.h"

// The tiles that a linear can be made of, and which it is made of.
namespace sluice::ops::cuda {

// What a block computes at a time with its math warpgroups. It changes no bit: an element is made by the
// same instructions, of some n, in any of them.
struct TileShape {
  bool fp8 = false;  // the types that it is for
  bool bf16 = false;
  int warpgroups = 2;   // that multiply, one below the other, 64 rows each
  int row_waves = 1;    // of 64 * warpgroups rows, one after the other in each warpgroup; 2: FP8 only
  int n = 128;          // outputs, of the tile and of one wgmma
  int below = 1;        // blocks of a cluster one below the other, each of which brings its share of w to all
  bool beside = false;  // a cluster of two blocks side by side, each of which brings half of x to both

  __host__ __device__ constexpr int rows() const { return 64 * warpgroups * row_waves; }
  __host__ __device__ constexpr int outputs() const { return n; }
  __host__ __device__ constexpr int blocks() const { return beside ? 2 : below; }
  __host__ __device__ constexpr bool clustered() const { return blocks() > 1; }
  __host__ __device__ constexpr int math_threads() const { return 128 * warpgroups; }
  __host__ __device__ constexpr int threads() const { return 128 + math_threads(); }
  // Of the cluster.
  __host__ __device__ constexpr int all_rows() const { return below * rows(); }
  __host__ __device__ constexpr int all_outputs() const { return beside ? 2 * outputs() : outputs(); }
  // Rows of x and of w that a block brings at once.
  __host__ __device__ constexpr int x_box() const { return beside ? rows() / 2 : rows(); }
  __host__ __device__ constexpr int w_box() const { return outputs() / below; }
  // FP8: whether registers have no room for the sums of two blocks of k beside the accumulators.
  __host__ __device__ constexpr bool one_sum() const { return row_waves > 1 || n > 128; }
  // FP8: weight scales of a block of k, and the outputs, from the first on, that are sure to have one of them
  // in common.
  __host__ __device__ constexpr int w_scales() const { return 128 % n == 0 ? 1 : 2; }
  __host__ __device__ constexpr int scale_outputs() const { return 128 % n == 0 ? n : 64; }
  // Blocks of k that are brought, waited for and freed at once.
  __host__ __device__ constexpr int stage_blocks() const { return n <= 64 ? 2 : 1; }
};

// The tile of a block, rows x outputs.
inline constexpr TileShape kTileShapes[] = {
    {.fp8 = true, .row_waves = 2, .beside = true},          // 256 x 128, of a pair 256 x 256
    {.fp8 = true, .n = 192, .below = 4},                    // 128 x 192, of four 512 x 192
    {.bf16 = true, .n = 256, .below = 2},                   // 128 x 256, of a pair 256 x 256
    {.fp8 = true, .bf16 = true},                            // 128 x 128
    {.fp8 = true, .n = 64},                                 // 128 x 64
    {.fp8 = true, .bf16 = true, .warpgroups = 1},           // 64 x 128
    {.fp8 = true, .bf16 = true, .warpgroups = 1, .n = 64},  // 64 x 64
    {.fp8 = true, .warpgroups = 1, .n = 32},                // 64 x 32
    {.fp8 = true, .bf16 = true, .warpgroups = 1, .n = 16},  // 64 x 16
};
inline constexpr int kTileShapeCount = static_cast<int>(sizeof(kTileShapes) / sizeof(TileShape));

// Whether kTileShapes[shape] is for x and w of `type`.
constexpr bool IsFor(int shape, DType type) {
  return type == DType::kF8E4M3 ? kTileShapes[shape].fp8 : kTileShapes[shape].bf16;
}

// The tile that Enqueue (gemm.h) takes: that whose last cluster is expected to be done first on `sms` of the
// device's SMs.
int ChooseShape(const Gemm& gemm, int sms, int device_sms);

}  // namespace sluice::ops::cuda
