#include "ops/cuda/quantize_rows.h"

#include <algorithm>
#include <cmath>

#include "ops/cache_format.h"
#include "ops/cuda/device_rows.h"

namespace sluice::ops::cuda {
namespace {

class Quantization : public OnGpu {};

// Random rows, and rows whose blocks have their largest magnitude at the edge of a scale, tiny, huge or 0.
OwnedTensor AwkwardRows(int64_t rows, int64_t width) {
  std::mt19937_64 random(4);
  OwnedTensor x = Random(random, DType::kBF16, rows, width, 1.0F);
  int64_t row = 0;
  for (const float largest : {224.0F, 225.0F, 448.0F, 450.0F, 1e-30F, 0.0F, 3e38F, 1e-4F}) {
    for (int64_t i = 0; i < width; ++i) {
      StoreFloat(x, row, i, largest * (i % 7 == 0 ? -1.0F : 1.0F / static_cast<float>(3 + i)));
    }
    ++row;
  }
  return x;
}

// Codes, then scales, row by row, by the formula.
OwnedTensor Quantized(const Tensor& x) {
  OwnedTensor rows(DType::kU8, x.rows, ScaledCodeBytes(x.cols));
  for (int64_t t = 0; t < x.rows; ++t) {
    auto* codes = rows.view().Row<F8E4M3>(t);
    auto* scales = rows.view().Row<std::byte>(t) + x.cols;
    for (int64_t block = 0; block < x.cols; block += kQuantBlock, scales += sizeof(float)) {
      const int64_t end = std::min(x.cols, block + kQuantBlock);
      float largest = 0.0F;
      for (int64_t i = block; i < end; ++i) largest = std::max(largest, std::fabs(LoadFloat(x, t, i)));
      const float scale = PowerOfTwoScale(largest);
      std::memcpy(scales, &scale, sizeof(scale));
      for (int64_t i = block; i < end; ++i) codes[i] = ToF8E4M3(LoadFloat(x, t, i) / scale);
    }
  }
  return rows;
}

// Nothing but the rounding to e4m3 happens, so the bits are those of the formula.
TEST_F(Quantization, HasTheBytesOfTheFormula) {
  constexpr int64_t kRows = 130;
  for (const int64_t width : {7168, 6144, 2048, 1536, 304}) {
    const OwnedTensor x = AwkwardRows(kRows, width);
    const Input on_x(x, 48);
    const int64_t row_bytes = ScaledCodeBytes(width);
    const int64_t stride = QuantizedRowBytes(width);
    Outputs truth;
    truth["rows"] = Quantized(x);
    const auto run = [&](int64_t first, int64_t count) {
      const Output rows(DType::kU8, count, row_bytes, stride - row_bytes);
      Must(Enqueue(
          QuantizeRows{count, width, on_x.Row(first), on_x.stride(), InOneRow(rows.data(), stride, width)},
          nullptr));
      Outputs out;
      out["rows"] = rows.Get();
      return out;
    };
    ExpectRowsAreRight(run, truth, kRows, std::to_string(width));
    ExpectEqualBits(run(0, kRows).at("rows"), truth["rows"], "rows of " + std::to_string(width));
  }
}

TEST_F(Quantization, PutsCodesAndScalesApart) {
  constexpr int64_t kRows = 130;
  constexpr int64_t kWidth = 1552;  // not a whole number of blocks
  constexpr int64_t kBlocks = 13;
  const OwnedTensor x = AwkwardRows(kRows, kWidth);
  const Input on_x(x);
  const OwnedTensor truth = Quantized(x);
  const Output codes(DType::kF8E4M3, kRows, kWidth, 112);
  const Output scales(DType::kF32, kRows, kBlocks);
  Must(Enqueue(QuantizeRows{kRows,
                            kWidth,
                            on_x.Row(0),
                            on_x.stride(),
                            {codes.data(), codes.stride(), scales.data<float>(), scales.stride()}},
               nullptr));
  const OwnedTensor got_codes = codes.Get();
  const OwnedTensor got_scales = scales.Get();
  for (int64_t t = 0; t < kRows; ++t) {
    const auto* row = truth.view().Row<std::byte>(t);
    EXPECT_EQ(std::memcmp(got_codes.view().Row<std::byte>(t), row, kWidth), 0) << t;
    EXPECT_EQ(std::memcmp(got_scales.view().Row<std::byte>(4 * t), row + kWidth, 4 * kBlocks), 0) << t;
  }
}

}  // namespace
}  // namespace sluice::ops::cuda
