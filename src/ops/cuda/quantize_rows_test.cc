#include "ops/cuda/quantize_rows.h"

#include "ops/cache_format.h"
#include "ops/cuda/device_rows.h"
#include "ops/reference/reference_ops.h"

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

// Nothing but the rounding to e4m3 happens, so both ways give the bits of the reference.
TEST_F(Quantization, HasTheBytesOfTheReferenceAndComesBack) {
  constexpr int64_t kRows = 130;
  for (const int64_t width : {7168, 6144, 2048, 1536, 304}) {
    const OwnedTensor x = AwkwardRows(kRows, width);
    const Input on_x(x, 48);
    const int64_t row_bytes = QuantizedRowBytes(width);
    const int64_t stride = (row_bytes + 7) / 8 * 8;
    const auto reference = MakeReferenceOps(Numerics::kFp8);
    Outputs truth;
    truth["wire"] = OwnedTensor(DType::kU8, kRows, row_bytes);
    truth["back"] = OwnedTensor(DType::kBF16, kRows, width);
    reference->QuantizeRows(x, truth["wire"]);
    reference->DequantizeRows(truth["wire"], truth["back"]);
    const auto run = [&](int64_t first, int64_t count) {
      const Output wire(DType::kU8, count, row_bytes, stride - row_bytes);
      const Output back(DType::kBF16, count, width, 16);
      const QuantizedRows rows = OnTheWire(wire.data(), stride, width);
      Must(Enqueue(QuantizeRows{count, width, on_x.Row(first), on_x.stride(), rows}, nullptr));
      Must(Enqueue(DequantizeRows{count, width, rows, back.data(), back.stride()}, nullptr));
      Outputs out;
      out["wire"] = wire.Get();
      out["back"] = back.Get();
      return out;
    };
    ExpectRowsAreRight(run, truth, kRows, std::to_string(width));
    const Outputs all = run(0, kRows);
    ExpectEqualBits(all.at("wire"), truth["wire"], "rows of the wire");
    ExpectEqualBits(all.at("back"), truth["back"], "rows back from the wire");
  }
}

TEST_F(Quantization, HasTheSameCodesForALinear) {
  constexpr int64_t kRows = 130;
  constexpr int64_t kWidth = 1552;  // not a whole number of blocks
  constexpr int64_t kBlocks = 13;
  const OwnedTensor x = AwkwardRows(kRows, kWidth);
  const Input on_x(x);
  OwnedTensor wire(DType::kU8, kRows, QuantizedRowBytes(kWidth));
  MakeReferenceOps(Numerics::kFp8)->QuantizeRows(x, wire);
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
    EXPECT_EQ(std::memcmp(got_codes.view().Row<std::byte>(t), wire.view().Row<std::byte>(t), kWidth), 0) << t;
    EXPECT_EQ(std::memcmp(got_scales.view().Row<std::byte>(4 * t), wire.view().Row<std::byte>(t) + kWidth,
                          4 * kBlocks),
              0)
        << t;
  }
}

}  // namespace
}  // namespace sluice::ops::cuda
