#pragma once

#include "ops/cache_format.h"
#include "tensor/tensor.h"

namespace sluice::ops {

// In which forms weights read the rows that they multiply.
struct Forms {
  bool values = false;     // as they are: what is not FP8
  bool quantized = false;  // as e4m3: FP8 weights
  friend constexpr Forms operator|(Forms a, Forms b) {
    return {a.values || b.values, a.quantized || b.quantized};
  }
  bool operator==(const Forms&) const = default;
};

// Rows for linears in the forms that these read, so that linears of the same rows do not each quantise them.
// An op that makes rows fills the forms that are there. Rows that an FP8 weight finds as values alone are
// quantised by its linear, to the same bits.
struct Activation {
  Activation() = default;
  // Rows in one form, which their type tells.
  Activation(const Tensor& form) {  // NOLINT(google-explicit-constructor)
    (form.dtype == DType::kU8 ? quantized : values) = form;
  }
  Activation(const OwnedTensor& form)  // NOLINT(google-explicit-constructor)
      : Activation(form.view()) {}
  Activation(const Tensor& as_values, const Tensor& as_codes) : values(as_values), quantized(as_codes) {}

  Forms forms() const { return {values.cols > 0, quantized.cols > 0}; }
  int64_t rows() const { return forms().values ? values.rows : quantized.rows; }
  Activation RowRange(int64_t begin, int64_t count) const {
    Activation range;
    if (forms().values) range.values = values.RowRange(begin, count);
    if (forms().quantized) range.quantized = quantized.RowRange(begin, count);
    return range;
  }
  // Of its forms those that are wanted, and values where a quantised form is wanted that is not there.
  Activation Only(Forms wanted) const {
    Activation some;
    if (wanted.quantized) some.quantized = quantized;
    if (wanted.values || !some.forms().quantized) some.values = values;
    return some;
  }

  Tensor values;  // [T, K] of type A
  // [T, QuantizedRowBytes(K)] U8. Per row K e4m3 codes, then an fp32 power-of-two scale for every 128
  // channels: scale = PowerOfTwoScale(largest magnitude), codes = e4m3(values / scale), values as type A has
  // them.
  Tensor quantized;
};

}  // namespace sluice::ops
