#include "ops/cpu/gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/rows.h"

namespace sluice::ops {
namespace {

class LinearTest : public testing::Test {
 protected:
  OwnedTensor Random(DType dtype, int64_t rows, int64_t cols, float scale = 1.0F) {
    OwnedTensor tensor(dtype, rows, cols);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        if (dtype == DType::kF8E4M3) {
          tensor.view().At<F8E4M3>(i, j) = ToF8E4M3(100.0F * normal(rng_));
        } else {
          // Magnitudes over many octaves reach every branch of a rounding.
          StoreFloat(tensor, i, j, scale * normal(rng_) * std::exp2(static_cast<float>(rng_() % 12) - 8.0F));
        }
      }
    }
    return tensor;
  }
  static RawMatrix Raw(const OwnedTensor& w, const float* scales = nullptr) {
    return {w.view().dtype, w.view().rows, w.view().cols, w.view().data, scales};
  }

  std::mt19937_64 rng_{5};
  ComputePool pool_{2};
};

// What ops.h says about an FP8 linear, one output at a time.
float Fp8Output(const Tensor& x, int64_t t, const Tensor& w, const std::vector<float>& w_scales, int64_t n) {
  const int64_t blocks = (x.cols + kQuantBlock - 1) / kQuantBlock;
  float acc = 0.0F;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t end = std::min(x.cols, (block + 1) * kQuantBlock);
    float amax = 0.0F;
    for (int64_t k = block * kQuantBlock; k < end; ++k) amax = std::fmax(amax, std::fabs(LoadFloat(x, t, k)));
    const float scale = PowerOfTwoScale(amax);
    float p = 0.0F;
    for (int64_t k = block * kQuantBlock; k < end; ++k) {
      p = std::fma(ToFloat(ToF8E4M3(LoadFloat(x, t, k) / scale)), LoadFloat(w, n, k), p);
    }
    acc = std::fma(p, scale * w_scales[n / kQuantBlock * blocks + block], acc);
  }
  return acc;
}

TEST_F(LinearTest, IsOneAscendingFmaChain) {
  const OwnedTensor x = Random(DType::kF32, 21, 391);
  const OwnedTensor w = Random(DType::kF32, 45, 391);
  OwnedTensor y(DType::kF32, 21, 45);
  const auto ops = MakeCpuOps(Numerics::kExact, pool_);
  ops->Linear(x, *ops->Pack(Raw(w)), y);
  for (int64_t t = 0; t < 21; ++t) {
    for (int64_t n = 0; n < 45; ++n) {
      float sum = 0.0F;
      for (int64_t k = 0; k < 391; ++k)
        sum = std::fma(x.view().At<float>(t, k), w.view().At<float>(n, k), sum);
      ASSERT_EQ(y.view().At<float>(t, n), sum) << t << " " << n;
    }
  }
}

TEST_F(LinearTest, Fp8FollowsTheContractBitForBit) {
  for (const int64_t rows : {1, 3, 24, 25, 40}) {  // converted at each use, and expanded first
    const OwnedTensor x = Random(DType::kBF16, rows, 300);
    const OwnedTensor w = Random(DType::kF8E4M3, 200, 300);
    std::vector<float> scales(6);
    for (float& scale : scales) scale = std::ldexp(1.0F + static_cast<float>(rng_() % 8) / 8, -10);
    OwnedTensor y(DType::kF32, rows, 200);
    const auto ops = MakeCpuOps(Numerics::kFp8, pool_);
    ops->Linear(x, *ops->Pack(Raw(w, scales.data())), y);
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t n = 0; n < 200; ++n) {
        ASSERT_EQ(y.view().At<float>(t, n), Fp8Output(x, t, w, scales, n)) << t << " " << n;
      }
    }
  }
}

// A weight of ones on the diagonal hands the quantised activation through.
TEST_F(LinearTest, ActivationsRoundToE4M3AsTheScalarRuleDoes) {
  constexpr int64_t kRows = 400;
  OwnedTensor w(DType::kF8E4M3, 128, 128);
  for (int64_t i = 0; i < 128; ++i) w.view().At<F8E4M3>(i, i) = ToF8E4M3(1.0F);
  const float one = 1.0F;
  OwnedTensor x(DType::kF32, kRows, 128);
  for (int64_t t = 0; t < kRows; ++t) {
    for (int64_t k = 0; k < 128; ++k) {
      // Every code, every middle between two codes (a tie) and its neighbours, times a scale of the row.
      const auto code = static_cast<uint8_t>(rng_() % 0x7e);
      const float low = ToFloat(F8E4M3{code});
      const float high = ToFloat(F8E4M3{static_cast<uint8_t>(code + 1)});
      const float middle = (low + high) / 2;
      const float values[4] = {low, middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 1e9F)};
      x.view().At<float>(t, k) =
          std::ldexp((k % 2 == 0 ? 1.0F : -1.0F) * values[rng_() % 4], int(t % 20) - 10);
    }
    x.view().At<float>(t, 5) = std::ldexp(448.0F, int(t % 20) - 10);  // fixes the scale
  }
  OwnedTensor y(DType::kF32, kRows, 128);
  const auto ops = MakeCpuOps(Numerics::kFp8, pool_);
  ops->Linear(x, *ops->Pack(Raw(w, &one)), y);
  for (int64_t t = 0; t < kRows; ++t) {
    const float scale = std::ldexp(1.0F, int(t % 20) - 10);
    for (int64_t k = 0; k < 128; ++k) {
      ASSERT_EQ(y.view().At<float>(t, k), scale * ToFloat(ToF8E4M3(x.view().At<float>(t, k) / scale)))
          << x.view().At<float>(t, k);
    }
  }
}

TEST_F(LinearTest, RelativeErrorAgainstDoubleIsSmall) {
  const OwnedTensor x = Random(DType::kF32, 7, 512);
  const OwnedTensor w = Random(DType::kF32, 64, 512);
  OwnedTensor y(DType::kF32, 7, 64);
  const auto ops = MakeCpuOps(Numerics::kExact, pool_);
  ops->Linear(x, *ops->Pack(Raw(w)), y);
  double error = 0.0;
  double norm = 0.0;
  for (int64_t t = 0; t < 7; ++t) {
    for (int64_t n = 0; n < 64; ++n) {
      double truth = 0.0;
      for (int64_t k = 0; k < 512; ++k)
        truth += static_cast<double>(x.view().At<float>(t, k)) * w.view().At<float>(n, k);
      error += std::pow(y.view().At<float>(t, n) - truth, 2);
      norm += truth * truth;
    }
  }
  EXPECT_LE(std::sqrt(error / norm), 1e-6);
}

// The same row at every height up to 4096, first, in the middle and last.
TEST_F(LinearTest, ARowHasTheSameBitsAtEveryHeight) {
  constexpr int64_t kWidth = 160;
  constexpr int64_t kOutputs = 70;
  for (const bool fp8 : {false, true}) {
    const auto ops = MakeCpuOps(fp8 ? Numerics::kFp8 : Numerics::kExact, pool_);
    const OwnedTensor w = Random(fp8 ? DType::kF8E4M3 : DType::kF32, kOutputs, kWidth);
    const float scales[2] = {0.5F, 0.25F};
    const auto weight = ops->Pack(Raw(w, fp8 ? scales : nullptr));
    const OwnedTensor row = Random(ActivationType(ops->numerics()), 1, kWidth);
    OwnedTensor alone(DType::kF32, 1, kOutputs);
    ops->Linear(row, *weight, alone);
    std::vector<int64_t> heights{4096, 1000, 513, 193, 192, 191};
    for (int64_t m = 2; m < 60; ++m) heights.push_back(m);
    for (const int64_t m : heights) {
      const OwnedTensor x = Random(row.view().dtype, m, kWidth);
      OwnedTensor y(DType::kF32, m, kOutputs);
      for (const int64_t at : {int64_t{0}, m / 2, m - 1}) {
        std::memcpy(x.view().RowRange(at, 1).data, row.view().data, row.view().bytes());
      }
      ops->Linear(x, *weight, y);
      for (const int64_t at : {int64_t{0}, m / 2, m - 1}) {
        ASSERT_EQ(std::memcmp(y.view().Row<float>(at), alone.view().data, alone.view().bytes()), 0)
            << "row " << at << " of " << m << (fp8 ? ", fp8" : "");
      }
    }
  }
}

TEST_F(LinearTest, GroupsUseTheirOwnWeights) {
  const auto ops = MakeCpuOps(Numerics::kFp8, pool_);
  std::vector<OwnedTensor> weights;
  std::vector<RawMatrix> raws;
  for (int e = 0; e < 5; ++e) {
    weights.push_back(Random(DType::kBF16, 40, 72));
    raws.push_back(Raw(weights.back()));
  }
  const auto group = ops->PackGroup(raws);
  const std::vector<int64_t> offsets{0, 0, 17, 18, 18, 60};
  const OwnedTensor x = Random(DType::kBF16, 60, 72);
  OwnedTensor y(DType::kBF16, 60, 40);
  OwnedTensor expected(DType::kBF16, 60, 40);
  OwnedTensor groups(DType::kI32, 5, 3);
  for (int32_t e = 0; e < 5; ++e) {
    auto* of = groups.view().Row<int32_t>(e);
    of[0] = static_cast<int32_t>(offsets[static_cast<size_t>(e)]);
    of[1] = static_cast<int32_t>(offsets[static_cast<size_t>(e) + 1]);
    of[2] = e;
  }
  ops->GroupedLinear(x, groups, *group, y);
  for (size_t e = 0; e < 5; ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    ops->Linear(x.view().RowRange(offsets[e], rows), *ops->Pack(raws[e]), expected.view().RowRange(offsets[e], rows));
  }
  EXPECT_EQ(std::memcmp(y.view().data, expected.view().data, y.view().bytes()), 0);
}

TEST_F(LinearTest, AWeightWithNaNIsRefused) {
  OwnedTensor w = Random(DType::kF8E4M3, 3, 130);
  w.view().At<uint8_t>(2, 129) = 0xff;
  const float scales[2] = {1.0F, 1.0F};
  EXPECT_THROW(MakeCpuOps(Numerics::kFp8, pool_)->Pack(Raw(w, scales)), Error);
}

TEST_F(LinearTest, ANaNActivationReachesItsRowAndNoOther) {
  for (const Numerics numerics : {Numerics::kExact, Numerics::kFp8}) {
    const auto ops = MakeCpuOps(numerics, pool_);
    OwnedTensor x = Random(ActivationType(numerics), 3, 128);
    const OwnedTensor w = Random(DType::kF8E4M3, 32, 128);
    const float scale = 1.0F;
    // Every bit of the mantissa set: rounding it like a number would carry into the sign.
    if (numerics == Numerics::kExact) {
      x.view().At<uint32_t>(1, 77) = 0x7fffffffU;
    } else {
      x.view().At<uint16_t>(1, 77) = 0x7fffU;
    }
    for (const DType type : {DType::kF32, DType::kBF16}) {
      OwnedTensor y(type, 3, 32);
      ops->Linear(x, *ops->Pack(Raw(w, &scale)), y);
      for (int64_t n = 0; n < 32; ++n) {
        EXPECT_FALSE(std::isnan(LoadFloat(y, 0, n)));
        EXPECT_TRUE(std::isnan(LoadFloat(y, 1, n)));
        EXPECT_FALSE(std::isnan(LoadFloat(y, 2, n)));
      }
    }
  }
}

TEST(ExpValues, AreWithinTwoUnitsInTheLastPlace) {
  std::vector<float> in;
  for (float x = -103.0F; x < 88.7F; x += 0.000917F) in.push_back(x);
  std::vector<float> out(in.size());
  cpu::ExpValues(in, out);
  double worst = 0.0;
  for (size_t i = 0; i < in.size(); ++i) {
    const double truth = std::exp(static_cast<double>(in[i]));
    const auto nearest = static_cast<float>(truth);
    const double unit = static_cast<double>(std::nextafter(nearest, 1e38F)) - static_cast<double>(nearest);
    worst = std::max(worst, std::fabs(static_cast<double>(out[i]) - truth) / unit);
  }
  EXPECT_LE(worst, 2.0);
  RecordProperty("worst_ulp", std::to_string(worst));

  const std::vector<float> special{0.0F, -INFINITY, -200.0F, INFINITY, 100.0F, std::nanf("")};
  std::vector<float> result(special.size());
  cpu::ExpValues(special, result);
  EXPECT_EQ(result[0], 1.0F);
  EXPECT_EQ(result[1], 0.0F);
  EXPECT_EQ(result[2], 0.0F);
  EXPECT_EQ(result[3], INFINITY);
  EXPECT_EQ(result[4], INFINITY);
  EXPECT_TRUE(std::isnan(result[5]));
}

}  // namespace
}  // namespace sluice::ops
