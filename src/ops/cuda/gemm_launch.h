#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/gemm.h"
#include "ops/cuda/gemm_shape.h"

// Between gemm.cc, which checks and describes the operands, and the kernel in gemm.cu.
namespace sluice::ops::cuda {

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

// Enqueue with a tile that is not the one it would choose, for tests and benchmarks; IsFor(shape,
// gemm.type). A shape whose blocks come in clusters leaves SMs idle that make no whole one, and needs
// one cluster's.
cudaError_t EnqueueWithShape(const Gemm& gemm, int shape, TileCounter tiles, int sms, cudaStream_t stream);

}  // namespace sluice::ops::cuda
