#include "ops/activation.h"

#include "base/checked.h"
#include "ops/cuda/ops_on_gpu.h"

// Rows made once in the forms that linears read, against what each linear makes of values for itself: equal
// bits, on the GPU back end.
namespace sluice::ops::cuda {
namespace {

constexpr int64_t kRows = 130;
constexpr int64_t kOutputs = 272;
constexpr int64_t kExperts = 5;

// Hidden rows, low-rank queries, experts, and one whose blocks and rows are filled up.
constexpr int64_t kWidths[] = {7168, 1536, 2048, 304};

class Activations : public OpsOnGpu {
 protected:
  OwnedTensor RandomOnGpu(DType dtype, int64_t rows, int64_t cols, float deviation) {
    return ToGpu(Random(random_, dtype, rows, cols, deviation));
  }
  // Zeros.
  OwnedTensor Room(DType dtype, int64_t rows, int64_t cols) { return {dtype, rows, cols, ops_->memory()}; }
  OwnedTensor RoomForCodes(int64_t rows, int64_t width) {
    return Room(DType::kU8, rows, QuantizedRowBytes(width));
  }
  // `count` weights [kOutputs, width].
  std::unique_ptr<WeightGroup> Weights(DType dtype, int64_t count, int64_t width) {
    std::vector<OwnedTensor> data;
    std::vector<RawMatrix> raws;
    const std::vector<float> scales(
        static_cast<size_t>(CeilDiv(kOutputs, kQuantBlock) * CeilDiv(width, kQuantBlock)), 0x1p-9F);
    for (int64_t i = 0; i < count; ++i) {
      data.emplace_back(dtype, kOutputs, width);
      for (int64_t at = 0; at < kOutputs * width; ++at) {
        if (dtype == DType::kF8E4M3) {
          data.back().view().Row<uint8_t>(0)[at] = static_cast<uint8_t>(random_() & 0xbf);  // no NaN
        } else {
          StoreFloat(data.back(), at / width, at % width, static_cast<float>(random_() % 256) / 128 - 1);
        }
      }
      raws.push_back({dtype, kOutputs, width, data.back().view().data,
                      dtype == DType::kF8E4M3 ? scales.data() : nullptr});
    }
    return ops_->PackGroup(raws);
  }
  void ExpectEqual(const Tensor& a, const Tensor& b, const std::string& what) {
    ExpectEqualBits(ToHost(a), ToHost(b), what);
  }
  // make(y) into values alone, codes alone and both: the same bits. Returns the rows in both forms.
  template <typename Make>
  std::pair<OwnedTensor, OwnedTensor> InEveryForm(int64_t rows, int64_t width, const std::string& what,
                                                  const Make& make) {
    const OwnedTensor alone = Room(DType::kBF16, rows, width);
    const OwnedTensor codes_alone = RoomForCodes(rows, width);
    std::pair both{Room(DType::kBF16, rows, width), RoomForCodes(rows, width)};
    make(Activation(alone));
    make(Activation(codes_alone));
    make(Activation(both.first, both.second));
    ExpectEqual(both.first, alone, what + ", values");
    ExpectEqual(both.second, codes_alone, what + ", codes");
    return both;
  }

  std::mt19937_64 random_{23};
};

TEST_F(Activations, OfNormsAndSwiGluAreTheSameInEveryForm) {
  for (const int64_t width : kWidths) {
    const std::string of = " of " + std::to_string(width);
    const OwnedTensor x = RandomOnGpu(DType::kBF16, kRows, width, 2.0F);
    const OwnedTensor delta = RandomOnGpu(DType::kBF16, kRows, width, 1.0F);
    const OwnedTensor weight = RandomOnGpu(DType::kF32, 1, width, 1.0F);
    InEveryForm(kRows, width, "SwiGlu" + of, [&](const Activation& y) { ops_->SwiGlu(x, delta, y); });
    InEveryForm(kRows, width, "RmsNorm" + of,
                [&](const Activation& y) { ops_->RmsNorm(x, weight, 1e-6F, y); });

    const OwnedTensor sum = Room(DType::kBF16, kRows, width);
    const auto reset = [&] {
      ops_->Finish();
      ops_->memory().Copy(x.view().data, sum.view().data, x.view().bytes());
    };
    reset();
    ops_->Add(delta, sum);
    const OwnedTensor added = ToGpu(HostCopy((ops_->Finish(), sum.view()), ops_->memory()).view());
    const OwnedTensor normed = Room(DType::kBF16, kRows, width);
    ops_->RmsNorm(added, weight, 1e-6F, normed);
    const auto [values, codes] = InEveryForm(kRows, width, "AddRmsNorm" + of, [&](const Activation& y) {
      reset();
      ops_->AddRmsNorm(delta, sum, weight, 1e-6F, y);
      ExpectEqual(sum, added, "the sum" + of);
    });
    ExpectEqual(values, normed, "AddRmsNorm and RmsNorm of the sum" + of);
  }
}

TEST_F(Activations, GiveLinearsTheBitsOfTheirOwnQuantisation) {
  for (const int64_t width : kWidths) {
    const OwnedTensor weight = RandomOnGpu(DType::kF32, 1, width, 1.0F);
    const auto fp8 = Weights(DType::kF8E4M3, kExperts, width);
    const auto bf16 = Weights(DType::kBF16, kExperts, width);
    EXPECT_EQ(fp8->reads(), (Forms{false, true}));
    EXPECT_EQ(bf16->reads(), (Forms{true, false}));
    for (const int64_t rows : {int64_t{1}, int64_t{17}, kRows, int64_t{700}}) {
      const std::string of = fmt::format(" of {} rows of {}", rows, width);
      const OwnedTensor x = RandomOnGpu(DType::kBF16, rows, width, 2.0F);
      const OwnedTensor values = Room(DType::kBF16, rows, width);
      const OwnedTensor codes = RoomForCodes(rows, width);
      ops_->RmsNorm(x, weight, 1e-6F, {values, codes});
      const auto groups_of = [&](int64_t count) {
        OwnedTensor groups(DType::kI32, kExperts, 3);
        for (int64_t e = 0; e < kExperts; ++e) {
          auto* group = groups.view().Row<int32_t>(e);
          group[0] = static_cast<int32_t>(e * e * count / (kExperts * kExperts));
          group[1] = static_cast<int32_t>((e + 1) * (e + 1) * count / (kExperts * kExperts));
          group[2] = static_cast<int32_t>(e);
        }
        return ToGpu(groups);
      };
      const auto product = [&](const Activation& in, const WeightGroup& weights, int64_t count) {
        const OwnedTensor groups = groups_of(count);
        OwnedTensor y = Room(DType::kBF16, count, kOutputs);
        ops_->GroupedLinear(in, groups, weights, y);
        ops_->Finish();
        return y;
      };
      const OwnedTensor truth = product(values, *fp8, rows);
      ExpectEqual(product(codes, *fp8, rows), truth, "an FP8 linear" + of);
      ExpectEqual(product({values, codes}, *fp8, rows), truth, "an FP8 linear of both forms" + of);
      ExpectEqual(product({values, codes}, *bf16, rows), product(values, *bf16, rows), "a bf16 linear" + of);

      // Taken rows, as experts have them.
      OwnedTensor taken(DType::kI32, 1, 2 * rows);
      for (int64_t i = 0; i < 2 * rows; ++i) {
        taken.view().At<int32_t>(0, i) = static_cast<int32_t>(random_() % static_cast<uint64_t>(rows));
      }
      const OwnedTensor on_gpu = ToGpu(taken);
      const OwnedTensor some_values = Room(DType::kBF16, 2 * rows, width);
      const OwnedTensor some_codes = RoomForCodes(2 * rows, width);
      ops_->TakeRows(values, on_gpu, some_values);
      ops_->TakeRows(codes, on_gpu, some_codes);
      ExpectEqual(product(some_codes, *fp8, 2 * rows), product(some_values, *fp8, 2 * rows),
                  "taken rows" + of);
    }
  }
}

// A linear that does not quantise takes no workspace.
TEST_F(Activations, NeedNoMemoryInsideLinears) {
  constexpr int64_t kWidth = 1024;
  OpLimits limits;
  limits.places = limits.sequences = limits.positions = limits.list = limits.top_k = limits.experts = 1;
  limits.vocabulary = 128;
  limits.linear_inputs = kWidth;
  ops_->Reserve(limits);
  constexpr int64_t kMany = 200'000;  // more than the workspace has for other ops
  const auto weights = Weights(DType::kF8E4M3, 1, kWidth);
  const OwnedTensor y = Room(DType::kBF16, kMany, kOutputs);
  OwnedTensor group(DType::kI32, 1, 3);
  group.view().At<int32_t>(0, 1) = kMany;
  const OwnedTensor groups = ToGpu(group);
  const OwnedTensor codes = RoomForCodes(kMany, kWidth);
  const OwnedTensor values = Room(DType::kBF16, kMany, kWidth);
  ops_->GroupedLinear(codes, groups, *weights, y);
  ops_->Finish();
  EXPECT_THROW(ops_->GroupedLinear(values, groups, *weights, y), Error);
}

}  // namespace
}  // namespace sluice::ops::cuda
