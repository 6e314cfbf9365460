#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/compute_pool.h"
#include "ops/ops.h"

// Linears: y = x W^T by a packed micro-kernel of our own (docs/decisions/cpu-gemm.md). Each output is one
// ascending FMA chain over k, whatever the number of rows, threads or vector lanes.
namespace sluice::ops::cpu {

inline constexpr int64_t kPanel = 32;       // outputs per panel; the same for every vector width
inline constexpr int64_t kRowBlock = 12;    // rows of x packed together
inline constexpr int64_t kTileBlocks = 16;  // most row blocks and panels of one unit of parallel work
inline constexpr int64_t kTilePanels = 4;

// W [N, K] as ceil(N / 32) panels, each [K][32], in fp32, bf16 or e4m3; columns beyond N are 0. FP8 block
// scales stay beside it as they were.
class PackedWeight final : public Weight {
 public:
  // Throws Error(kModelFiles) for an FP8 weight that holds a NaN code.
  PackedWeight(const RawMatrix& raw, Numerics numerics);

  DType dtype() const { return dtype_; }
  int64_t panels() const { return (rows() + kPanel - 1) / kPanel; }
  const std::byte* Panel(int64_t panel) const {
    return data_.data() + panel * kPanel * cols() * SizeOf(dtype_);
  }
  // FP8: the ceil(K / 128) scales that apply to a panel (128 is a multiple of 32).
  const float* PanelScales(int64_t panel) const {
    return scales_.data() + panel * kPanel / kQuantBlock * ((cols() + kQuantBlock - 1) / kQuantBlock);
  }

 private:
  DType dtype_;
  Buffer data_;
  std::vector<float> scales_;
};

// y = x W^T for rows that share a weight.
struct LinearJob {
  Tensor x;  // values; for an FP8 weight also the quantised form of an Activation
  const PackedWeight* weight = nullptr;
  Tensor y;
};

// Runs all jobs. Thread-safe; uses a bounded amount of per-thread scratch.
void RunLinears(std::span<const LinearJob> jobs, ComputePool& pool);

}  // namespace sluice::ops::cpu
