#pragma once

#include <span>

#include "ops/ops.h"
#include "tensor/upload.h"

namespace sluice::ops::cuda {

// Weights of one shape in device memory as gemm.h reads them: [count * rows, cols] e4m3 with block scales
// [count, ceil(rows / 128), ceil(cols / 128)], or bf16.
class PackedWeights {
 public:
  // Every dtype but F8_E4M3 becomes bf16. Throws Error(kModelFiles) where some of `raws` are FP8 and others
  // not, for rows that are not whole units of 16 bytes, and for an FP8 weight that holds NaN.
  PackedWeights(std::span<const RawMatrix> raws, Memory& memory, Upload& upload);

  DType dtype() const { return dtype_; }
  const void* data() const { return data_.data(); }
  const float* scales() const { return reinterpret_cast<const float*>(scales_.data()); }
  int64_t bytes() const { return data_.bytes() + scales_.bytes(); }

 private:
  DType dtype_;
  Buffer data_;
  Buffer scales_;
};

class PackedWeight final : public Weight {
 public:
  PackedWeight(const RawMatrix& raw, Memory& memory, Upload& upload)
      : Weight(raw.rows, raw.cols, raw.dtype == DType::kF8E4M3), packed({&raw, 1}, memory, upload) {}
  const PackedWeights packed;
};

class PackedGroup final : public WeightGroup {
 public:
  PackedGroup(std::span<const RawMatrix> raws, Memory& memory, Upload& upload)
      : WeightGroup(std::ssize(raws), raws[0].rows, raws[0].cols,
                    {raws[0].dtype != DType::kF8E4M3, raws[0].dtype == DType::kF8E4M3}),
        packed(raws, memory, upload) {}
  const PackedWeights packed;
};

}  // namespace sluice::ops::cuda
