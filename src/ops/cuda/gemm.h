#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "tensor/dtype.h"

// y = x W^T on the tensor cores: one inner loop for dense and grouped, FP8 and bf16 linears.
//
// One answer. Element (m, n) is made from row m of x and row n of the weight by the same instructions in the
// same order, whatever else is multiplied with them: k ascends in blocks of 128 bytes; inside a block one
// wgmma after the other on one accumulator; FP8: each block's sum is promoted, acc = fma(sum, scale_x *
// scale_w, acc), in fp32. How many rows there are, how they are grouped, which tile an element falls into and
// how many SMs compute changes no bit.
namespace sluice::ops::cuda {

// Rows [begin, end) of x, which weight number `weight` multiplies. An empty range is legal.
struct RowGroup {
  int32_t begin = 0;
  int32_t end = 0;
  int32_t weight = 0;
};

// All pointers are to device memory; data and strides in bytes are multiples of 16.
struct Gemm {
  DType type = DType::kF8E4M3;  // of x and the weights: F8_E4M3 or BF16
  int64_t rows = 0;             // T
  int64_t inputs = 0;           // K
  int64_t outputs = 0;          // N, of one weight
  int64_t weights = 1;          // one behind the other: [weights * N, K]
  const void* x = nullptr;      // [T, K]
  int64_t x_stride = 0;         // elements from row to row
  const void* w = nullptr;
  // FP8 only: of x [T, ceil(K / 128)], of the weights [weights, ceil(N / 128), ceil(K / 128)].
  const float* x_scales = nullptr;
  int64_t x_scales_stride = 0;  // floats from row to row
  const float* w_scales = nullptr;
  // The same linear for several column ranges of x and y, the heads of a row: batch b multiplies columns
  // [b * x_step, b * x_step + K) with weight b into columns [b * y_step, b * y_step + N) of y. 1: one range,
  // no steps. Not together with groups; K is then a multiple of 128 bytes.
  int64_t batches = 1;
  int64_t x_step = 0;
  int64_t y_step = 0;
  void* y = nullptr;            // [T, N]; rows that belong to no group are left as they are
  DType y_type = DType::kBF16;  // or F32
  int64_t y_stride = 0;
  // In device memory, so that a kernel may have made it; null: all rows, weight 0.
  const RowGroup* groups = nullptr;
  int32_t group_count = 0;
  // Cluster c of n takes tiles c, c + n, ... instead of drawing from the counter; for
  // bench/sm_theft_bench.cc.
  bool fixed_tiles = false;
};

inline constexpr int32_t kMostGroups = 1024;

// Two numbers in device memory from which the tiles of one launch are drawn; launches that overlap need a
// pair each. Linears draw from the second, which is 0 before a launch and again after it; other kernels from
// the first.
using TileCounter = int32_t*;
inline constexpr int kCounterNumbers = 2;

// Enqueues it on `stream` with one block on each of `sms` SMs (SmBudget); where blocks come in clusters,
// SMs that make no whole one are left alone. A block takes its next tile from the counter, so a block that
// starts late costs its own share and nobody else's. Nothing is allocated. Returns what CUDA says; throws
// Error(kInternal) for arguments outside the limits above.
cudaError_t Enqueue(const Gemm& gemm, TileCounter tiles, int sms, cudaStream_t stream);

}  // namespace sluice::ops::cuda
