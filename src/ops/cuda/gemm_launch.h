#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/gemm.h"

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
  int64_t y_step = 0;
  const float* x_scales = nullptr;
  const float* w_scales = nullptr;
  void* y = nullptr;
  int64_t y_stride = 0;
  const RowGroup* groups = nullptr;
  int32_t group_count = 0;
  int32_t* tiles = nullptr;
};

cudaError_t Launch(const LaunchedGemm& gemm, const CUtensorMap& x_map, const CUtensorMap& w_map, int sms,
                   cudaStream_t stream);

}  // namespace sluice::ops::cuda
