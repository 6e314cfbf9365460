#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "ops/ops.h"

namespace sluice::ops {

// A group as a list of weights, for back ends that multiply with one after the other.
class WeightList final : public WeightGroup {
 public:
  // Each packed by `ops`.
  WeightList(Ops& ops, std::span<const RawMatrix> raws)
      : WeightGroup(std::ssize(raws), raws.empty() ? 0 : raws[0].rows, raws.empty() ? 0 : raws[0].cols) {
    for (const RawMatrix& raw : raws) {
      SLUICE_CHECK(raw.rows == rows() && raw.cols == cols(), "weights of a group differ in shape");
      weights_.push_back(ops.Pack(raw));
    }
  }
  const Weight& operator[](int64_t at) const { return *weights_[static_cast<size_t>(at)]; }

 private:
  std::vector<std::unique_ptr<Weight>> weights_;
};

inline const WeightList& ListOf(const WeightGroup& group) { return dynamic_cast<const WeightList&>(group); }

}  // namespace sluice::ops
