#pragma once

#include <vector>

#include "base/checked.h"
#include "base/compute_pool.h"
#include "ops/ops.h"

namespace sluice::ops {

// A weight with its values in host memory: the one given, or a random one, made for this object's life.
class HostMatrix {
 public:
  HostMatrix(const RawMatrix& raw, ComputePool& pool) : raw_(raw) {
    if (!raw.random) return;
    made_ = Buffer(raw.rows * raw.cols * SizeOf(raw.dtype));
    raw_.data = made_.data();
    if (raw.dtype == DType::kF8E4M3) {
      scales_.resize(CeilDiv(raw.rows, kRandomBlock) * CeilDiv(raw.cols, kRandomBlock));
      raw_.scales = scales_.data();
    }
    FillRandom(*raw.random, pool, made_.data(), scales_.data());
    raw_.random.reset();
  }
  HostMatrix(const HostMatrix&) = delete;
  HostMatrix& operator=(const HostMatrix&) = delete;
  const RawMatrix& raw() const { return raw_; }

 private:
  Buffer made_;
  std::vector<float> scales_;
  RawMatrix raw_;
};

}  // namespace sluice::ops
