#pragma once

#include <cmath>
#include <cstdint>

#include "base/error.h"
#include "checkpoint/random_model.h"
#include "checkpoint/tensor_map.h"
#include "tensor/random_matrix.h"

// The values of a random model, tensor by tensor: pure functions of (seed, name, kind, shape, index), for
// whoever makes the same weights elsewhere.
//
// Spreads give unit variance where it matters, so that attention is not flat and index scores do not tie: a
// uniform value in +-s has variance s^2/3, so a linear of spread sqrt(3/fan_in) keeps the scale of its input,
// an embedding of spread sqrt(3) has variance 1, a norm of spread 0.17 deviates by about 0.1.
namespace sluice::checkpoint {

struct ValueRange {
  double center = 0.0;
  double spread = 0.0;
};

inline ValueRange RangeOf(const TensorSpec& spec, double embedding_gain) {
  switch (spec.kind) {
    case TensorKind::kLinear:
    case TensorKind::kKeptLinear:
      return {0.0, std::sqrt(3.0 / static_cast<double>(spec.shape.back()))};
    case TensorKind::kEmbedding:
      return {0.0, embedding_gain * std::sqrt(3.0)};
    case TensorKind::kNorm:
      return {1.0, 0.17};
    case TensorKind::kNormBias:
      return {0.0, 0.17};
    case TensorKind::kRouterBias:
      return {0.0, 0.087};
  }
  Fail(ErrorKind::kInternal, "Tensor {} has no kind.", spec.name);
}

// One tensor of the model; a vector is a matrix of one row.
inline RandomMatrix MatrixOf(const TensorSpec& spec, const RandomModel& model) {
  const ValueRange range = RangeOf(spec, model.embedding_gain);
  const int64_t rows = spec.shape.size() == 1 ? 1 : spec.shape[0];
  const int64_t cols = spec.shape.back();
  return {TensorKey(model.seed, spec.name),
          range.center,
          range.spread,
          rows,
          cols,
          DTypeFor(spec.kind, model.format),
          0,
          rows,
          0,
          cols};
}

}  // namespace sluice::checkpoint
