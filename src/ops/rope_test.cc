#include "ops/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sluice::ops {
namespace {

RopeScaling DeepSeek() {
  RopeScaling scaling;
  scaling.yarn = true;
  scaling.factor = 40.0;
  return scaling;
}

// The frequencies are a chain of fp32 operations, as the models were trained with; golden/model holds them to
// Transformers' bits, here they are held to their formula within the chain's roundings.
constexpr double kChain = 2.4e-7;

TEST(Rope, PlainFrequenciesAreThePowersOfTheta) {
  RopeScaling scaling;
  scaling.theta = 8e6;
  const std::vector<float> frequencies = InverseFrequencies(scaling);
  ASSERT_EQ(frequencies.size(), 32U);
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_NEAR(frequencies[i] * std::pow(8e6, static_cast<double>(i) / 32), 1.0, kChain) << i;
  }
}

// The ramp of DeepSeek-V3.2 runs from pair 10 to pair 23 (low = 10, high = 23).
TEST(Rope, YarnBlendsBetweenItsTwoCorners) {
  const std::vector<float> yarn = InverseFrequencies(DeepSeek());
  const std::vector<float> plain = InverseFrequencies(RopeScaling());
  for (size_t i = 0; i < 32; ++i) {
    const double ramp = std::fmin(std::fmax((static_cast<double>(i) - 10.0) / 13.0, 0.0), 1.0);
    const double f = std::pow(10000.0, -static_cast<double>(i) / 32);
    EXPECT_NEAR(yarn[i] / (f / 40 * ramp + f * (1 - ramp)), 1.0, kChain) << i;
  }
  EXPECT_EQ(yarn[10], plain[10]);
  EXPECT_LT(yarn[11], plain[11]);
  EXPECT_GT(yarn[22], plain[22] / 40);
  EXPECT_NEAR(yarn[23] / (plain[23] / 40), 1.0, kChain);
}

TEST(Rope, SoftmaxScaleOfTheKnownModels) {
  EXPECT_NEAR(SoftmaxScale(192, DeepSeek()), 0.1352337789, 1e-10);
  EXPECT_EQ(SoftmaxScale(256, RopeScaling()), 0.0625);
  EXPECT_EQ(RopeAmplitude(DeepSeek()), 1.0);
  RopeScaling uneven = DeepSeek();
  uneven.mscale = 2.0;
  EXPECT_NEAR(RopeAmplitude(uneven), (0.2 * std::log(40.0) + 1) / (0.1 * std::log(40.0) + 1), 1e-14);
}

TEST(Rope, AnglesAreRoundedToFloatAndTheirSinesAreTheNearestFloats) {
  const std::vector<float> frequencies = InverseFrequencies(DeepSeek());
  std::vector<float> row(64);
  int64_t off_by_one = 0;
  for (int64_t position : {0, 1, 63, 4095, 163839, 1048575}) {
    RopeRow(position, frequencies, row.data());
    for (size_t i = 0; i < 32; ++i) {
      const auto angle = static_cast<long double>(static_cast<float>(position) * frequencies[i]);
      const auto cosine = static_cast<float>(std::cos(angle));
      const auto sine = static_cast<float>(std::sin(angle));
      off_by_one += (row[i] != cosine) + (row[32 + i] != sine);
      EXPECT_NEAR(row[i], cosine, 6e-8F);
      EXPECT_NEAR(row[32 + i], sine, 6e-8F);
    }
  }
  EXPECT_LE(off_by_one, 1);
}

}  // namespace
}  // namespace sluice::ops
