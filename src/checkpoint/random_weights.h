#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "checkpoint/counter_random.h"
#include "checkpoint/tensor_map.h"

// The values of a random checkpoint, element by element: pure functions of (seed, name, kind, shape, index),
// for whoever makes the same weights elsewhere.
//
// Spreads give unit variance where it matters, so that attention is not flat and index scores do not tie: a
// uniform value in +-s has variance s^2/3, so a linear of spread sqrt(3/fan_in) keeps the scale of its input,
// an embedding of spread sqrt(3) has variance 1, a norm of spread 0.17 deviates by about 0.1.
namespace sluice::checkpoint {

struct ValueRange {
  double center = 0.0;
  double spread = 0.0;
};

inline ValueRange RangeOf(const TensorSpec& spec) {
  switch (spec.kind) {
    case TensorKind::kLinear:
    case TensorKind::kKeptLinear:
      return {0.0, std::sqrt(3.0 / static_cast<double>(spec.shape.back()))};
    case TensorKind::kEmbedding:
      return {0.0, std::sqrt(3.0)};
    case TensorKind::kNorm:
      return {1.0, 0.17};
    case TensorKind::kNormBias:
      return {0.0, 0.17};
    case TensorKind::kRouterBias:
      return {0.0, 0.087};
  }
  Fail(ErrorKind::kInternal, "Tensor {} has no kind.", spec.name);
}

// The fp32 values of one tensor, before they are rounded to its dtype.
class RandomTensor {
 public:
  RandomTensor(uint64_t seed, const TensorSpec& spec)
      : key_(TensorKey(seed, spec.name)),
        range_(RangeOf(spec)),
        cols_(spec.shape.back()),
        rows_(spec.shape.size() == 1 ? 1 : spec.shape[0]) {}

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  float At(int64_t row, int64_t col) const {
    return RandomValue(key_, static_cast<uint64_t>(row * cols_ + col), range_.center, range_.spread);
  }
  // The FP8 scale of the 128 x 128 block (block_row, block_col), cut off at the tensor's edges.
  float ScaleAt(int64_t block_row, int64_t block_col) const {
    float amax = 0.0F;
    for (int64_t row = block_row * kScaleBlock; row < std::min((block_row + 1) * kScaleBlock, rows_); ++row) {
      for (int64_t col = block_col * kScaleBlock; col < std::min((block_col + 1) * kScaleBlock, cols_);
           ++col) {
        amax = std::max(amax, std::fabs(At(row, col)));
      }
    }
    return PowerOfTwoScale(amax);
  }

 private:
  uint64_t key_;
  ValueRange range_;
  int64_t cols_, rows_;
};

}  // namespace sluice::checkpoint
