#include "ops/cuda/rms_norm.h"

#include "ops/cuda/add.h"
#include "ops/cuda/device_rows.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops::cuda {
namespace {

class Norms : public OnGpu {};

constexpr int64_t kRows = 130;

// Hidden rows of both models, their low-rank queries and latents, and one that is no whole number of blocks.
constexpr int64_t kWidths[] = {7168, 6144, 1536, 2048, 512, 2056};

// y = the norms of x; they may be the same rows.
RmsNorm NormOf(const Output& x, const Input& weight, float eps, const Output& y) {
  RmsNorm norm;
  norm.rows = y.rows();
  norm.width = y.cols();
  norm.x = x.data();
  norm.x_stride = x.stride();
  norm.weight = weight.Row<float>(0);
  norm.eps = eps;
  norm.y = y.data();
  norm.y_stride = y.stride();
  return norm;
}

// Of the sum of both, which x is then; delta's rows from `first` on.
RmsNorm NormOfSum(const Input& delta, int64_t first, const Output& x, const Input& weight, const Output& y) {
  RmsNorm norm = NormOf(x, weight, 1e-6F, y);
  norm.delta = delta.Row(first);
  norm.delta_stride = delta.stride();
  return norm;
}

TEST_F(Norms, AreCloseToTheReference) {
  for (const int64_t width : kWidths) {
    std::mt19937_64 random(5);
    const OwnedTensor x = Random(random, DType::kBF16, kRows, width, 2.0F);
    const OwnedTensor weight = Random(random, DType::kF32, 1, width, 1.0F);
    const Input on_weight(weight);
    Outputs truth;
    truth["y"] = OwnedTensor(DType::kBF16, kRows, width);
    MakeReferenceOps(Numerics::kFp8)->RmsNorm(x, weight, 1e-5F, truth["y"]);
    const auto run = [&](int64_t first, int64_t count) {
      const Output y(x.view().RowRange(first, count), 16);  // in place
      Must(Enqueue(NormOf(y, on_weight, 1e-5F, y), nullptr));
      Outputs out;
      out["y"] = y.Get();
      return out;
    };
    ExpectRowsAreRight(run, truth, kRows, std::to_string(width));
  }
}

// eps counts where a row is small, and the row may be nothing.
TEST_F(Norms, OfSmallRows) {
  constexpr int64_t kWidth = 7168;
  std::mt19937_64 random(6);
  OwnedTensor x = Random(random, DType::kBF16, 3, kWidth, 1e-3F);
  for (int64_t i = 0; i < kWidth; ++i) StoreFloat(x, 1, i, 0.0F);
  const OwnedTensor weight = Random(random, DType::kF32, 1, kWidth, 1.0F);
  OwnedTensor truth(DType::kBF16, 3, kWidth);
  MakeReferenceOps(Numerics::kFp8)->RmsNorm(x, weight, 1e-6F, truth);
  const Input on_weight(weight);
  const Output on_x(x, 0), y(DType::kBF16, 3, kWidth);
  Must(Enqueue(NormOf(on_x, on_weight, 1e-6F, y), nullptr));
  ExpectClose(y.Get(), truth, "small rows");
  ExpectEqualBits(on_x.Get(), x, "what was only read");
}

TEST_F(Norms, FusedAreTheThreeOpsOneAfterTheOther) {
  for (const int64_t width : kWidths) {
    const int64_t blocks = (width + 127) / 128;
    const int64_t gap = (16 - width % 16) % 16;
    std::mt19937_64 random(7);
    const OwnedTensor x = Random(random, DType::kBF16, kRows, width, 2.0F);
    const Input delta(Random(random, DType::kBF16, kRows, width, 1.0F), 32);
    const Input weight(Random(random, DType::kF32, 1, width, 1.0F));
    const auto run = [&](int64_t first, int64_t count, bool fused, bool keep_y) {
      const Output sum(x.view().RowRange(first, count), 64);
      const Output y(DType::kBF16, count, width, 0);
      const Output codes(DType::kF8E4M3, count, width, gap);
      const Output scales(DType::kF32, count, blocks);
      const QuantizedRows quantized{codes.data(), codes.stride(), scales.data<float>(), blocks};
      if (fused) {
        RmsNorm norm = NormOfSum(delta, first, sum, weight, y);
        norm.quantized = quantized;
        if (!keep_y) norm.y = nullptr;
        Must(Enqueue(norm, nullptr));
      } else {
        Must(Enqueue(Add{count, width, delta.Row(first), delta.stride(), sum.data(), sum.stride()}, nullptr));
        Must(Enqueue(NormOf(sum, weight, 1e-6F, y), nullptr));
        Must(Enqueue(QuantizeRows{count, width, y.data(), y.stride(), quantized}, nullptr));
      }
      Outputs out;
      out["sum"] = sum.Get();
      if (keep_y) out["y"] = y.Get();
      out["codes"] = codes.Get();
      out["scales"] = scales.Get();
      return out;
    };
    const Outputs apart = run(0, kRows, false, true);
    ExpectRowsAreRight([&](int64_t first, int64_t count) { return run(first, count, true, true); }, apart,
                       kRows, std::to_string(width));
    for (const bool keep_y : {true, false}) {
      for (const auto& [name, tensor] : run(0, kRows, true, keep_y)) {
        ExpectEqualBits(tensor, apart.at(name), name + " of " + std::to_string(width));
      }
    }
  }
}

// Rows by the hundred are loaded in another order than few.
TEST_F(Norms, OfManyRowsHaveTheBitsOfFew) {
  constexpr int64_t kWidth = 7168;
  constexpr int64_t kMany = 600;
  std::mt19937_64 random(8);
  const OwnedTensor x = Random(random, DType::kBF16, kMany, kWidth, 2.0F);
  const Input delta(Random(random, DType::kBF16, kMany, kWidth, 1.0F));
  const Input weight(Random(random, DType::kF32, 1, kWidth, 1.0F));
  const auto run = [&](int64_t first, int64_t count) {
    const Output sum(x.view().RowRange(first, count), 0);
    const Output y(DType::kBF16, count, kWidth);
    Must(Enqueue(NormOfSum(delta, first, sum, weight, y), nullptr));
    Outputs out;
    out["sum"] = sum.Get();
    out["y"] = y.Get();
    return out;
  };
  const Outputs all = run(0, kMany);
  for (const int64_t first : {0, 250, 500}) {
    for (const auto& [name, tensor] : run(first, 100)) {
      ExpectEqualBits(tensor, all.at(name).view().RowRange(first, 100), name);
    }
  }
}

}  // namespace
}  // namespace sluice::ops::cuda
