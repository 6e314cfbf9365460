#include "ops/cuda/swiglu.h"

#include "ops/cuda/device_rows.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops::cuda {
namespace {

class SwiGlus : public OnGpu {};

constexpr int64_t kRows = 130;
constexpr int64_t kWidths[] = {2048, 18432, 12288, 1040};  // experts, dense layers, no whole number of blocks

// gate and up are the halves of one tensor.
SwiGlu Work(const Input& both, int64_t first, int64_t count, int64_t width) {
  SwiGlu work;
  work.rows = count;
  work.width = width;
  work.gate = both.Row(first);
  work.gate_stride = both.stride();
  work.up = both.Row<BF16>(first) + width;
  work.up_stride = both.stride();
  return work;
}

TEST_F(SwiGlus, AreCloseToTheReference) {
  for (const int64_t width : kWidths) {
    std::mt19937_64 random(8);
    OwnedTensor both = Random(random, DType::kBF16, kRows, 2 * width, 2.0F);
    for (int64_t i = 0; i < 16; ++i) StoreFloat(both, 0, i, i < 8 ? -200.0F : 200.0F);  // e^200 is infinite
    const Input on_both(both, 16);
    Outputs truth;
    truth["y"] = OwnedTensor(DType::kBF16, kRows, width);
    MakeReferenceOps(Numerics::kFp8)
        ->SwiGlu(both.view().ColRange(0, width), both.view().ColRange(width, width), truth["y"]);
    const auto run = [&](int64_t first, int64_t count) {
      const Output y(DType::kBF16, count, width, 32);
      SwiGlu work = Work(on_both, first, count, width);
      work.y = y.data();
      work.y_stride = y.stride();
      Must(Enqueue(work, nullptr));
      Outputs out;
      out["y"] = y.Get();
      return out;
    };
    ExpectRowsAreRight(run, truth, kRows, std::to_string(width));
  }
}

TEST_F(SwiGlus, QuantizedAreTheTwoOpsOneAfterTheOther) {
  for (const int64_t width : kWidths) {
    const int64_t blocks = (width + 127) / 128;
    std::mt19937_64 random(9);
    const Input both(Random(random, DType::kBF16, kRows, 2 * width, 2.0F));
    const auto run = [&](bool fused, bool keep_y) {
      const Output y(DType::kBF16, kRows, width);
      const Output codes(DType::kF8E4M3, kRows, width);
      const Output scales(DType::kF32, kRows, blocks);
      const QuantizedRows quantized{codes.data(), codes.stride(), scales.data<float>(), blocks};
      SwiGlu work = Work(both, 0, kRows, width);
      work.y = keep_y ? y.data() : nullptr;
      work.y_stride = y.stride();
      if (fused) work.quantized = quantized;
      Must(Enqueue(work, nullptr));
      if (!fused) Must(Enqueue(QuantizeRows{kRows, width, y.data(), y.stride(), quantized}, nullptr));
      Outputs out;
      if (keep_y) out["y"] = y.Get();
      out["codes"] = codes.Get();
      out["scales"] = scales.Get();
      return out;
    };
    const Outputs apart = run(false, true);
    for (const bool keep_y : {true, false}) {
      for (const auto& [name, tensor] : run(true, keep_y)) {
        ExpectEqualBits(tensor, apart.at(name), name + " of " + std::to_string(width));
      }
    }
  }
}

}  // namespace
}  // namespace sluice::ops::cuda
