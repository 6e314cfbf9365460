#pragma once

#include <cmath>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "layouts/counting_ops.h"

namespace sluice::gpu {

// What a tensor core leaves a sum of FP8 products off by, of the row's rms (docs/decisions/gpu-kernels.md).
inline constexpr float kTensorCoreError = 1.5e-4F;

// The CPU back end with every sum of FP8 products off by as much as a tensor core may leave it off: normal
// noise of `size` times the row's rms, before the sum is rounded. How far its logits lie from those without
// noise is how far two right back ends may lie apart.
class JitterOps final : public layouts::CountingOps {
 public:
  JitterOps(std::unique_ptr<ops::Ops> inner, float size) : CountingOps(std::move(inner), log_), size_(size) {}

  void Linear(const ops::Activation& x, const ops::Weight& w, const Tensor& y) override {
    if (!w.is_fp8()) return CountingOps::Linear(x, w, y);
    const OwnedTensor sums(DType::kF32, y.rows, y.cols);
    CountingOps::Linear(x, w, sums);
    Round(sums, y);
  }
  void GroupedLinear(const ops::Activation& x, const Tensor& groups, const ops::WeightGroup& weights,
                     const Tensor& y) override {
    const OwnedTensor sums(DType::kF32, y.rows, y.cols);
    CountingOps::GroupedLinear(x, groups, weights, sums);
    Round(sums, y);
  }

 private:
  void Round(const Tensor& sums, const Tensor& y) {
    std::normal_distribution<float> normal;
    for (int64_t row = 0; row < y.rows; ++row) {
      double squares = 0.0;
      for (int64_t i = 0; i < y.cols; ++i)
        squares += std::pow(static_cast<double>(sums.At<float>(row, i)), 2);
      const float noise = size_ * static_cast<float>(std::sqrt(squares / static_cast<double>(y.cols)));
      for (int64_t i = 0; i < y.cols; ++i)
        StoreFloat(y, row, i, sums.At<float>(row, i) + noise * normal(random_));
    }
  }

  layouts::OpLog log_;
  const float size_;
  std::mt19937 random_{1};
};

}  // namespace sluice::gpu
