#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "ops/ops.h"

namespace sluice::ops {

// A group as a list of weights, for back ends that multiply with one after the other.
class WeightList final : public WeightGroup {
 public:
  // `weights` are packed already and of one shape.
  explicit WeightList(std::vector<std::unique_ptr<Weight>> weights)
      : WeightGroup(std::ssize(weights), weights.empty() ? 0 : weights[0]->rows(),
                    weights.empty() ? 0 : weights[0]->cols(), ReadBy(weights)),
        weights_(std::move(weights)) {
    for (const auto& weight : weights_) {
      SLUICE_CHECK(weight->rows() == rows() && weight->cols() == cols(),
                   "weights of a group differ in shape");
    }
  }
  const Weight& operator[](int64_t at) const { return *weights_[static_cast<size_t>(at)]; }

 private:
  static Forms ReadBy(const std::vector<std::unique_ptr<Weight>>& weights) {
    Forms forms;
    for (const auto& weight : weights) forms = forms | weight->reads();
    return forms;
  }

  std::vector<std::unique_ptr<Weight>> weights_;
};

inline const WeightList& ListOf(const WeightGroup& group) { return dynamic_cast<const WeightList&>(group); }

}  // namespace sluice::ops
