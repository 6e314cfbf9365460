#include "ops/scalar_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace sluice::ops {
namespace {

// The C library in long double is the truth: 11 bits more than what is tested.
double RelativeError(double value, long double truth) {
  return static_cast<double>(std::fabs((static_cast<long double>(value) - truth) / truth));
}

TEST(ScalarMath, ExpIsWithinTwoUnitsOfDouble) {
  std::mt19937_64 rng(1);
  std::uniform_real_distribution<double> uniform(-700.0, 700.0);
  for (int i = 0; i < 100'000; ++i) {
    const double x = i % 2 == 0 ? uniform(rng) : uniform(rng) / 700.0;
    EXPECT_LE(RelativeError(Exp(x), std::exp(static_cast<long double>(x))), 5e-16) << x;
  }
  EXPECT_EQ(Exp(0.0), 1.0);
  EXPECT_EQ(Exp(-std::numeric_limits<double>::infinity()), 0.0);
  EXPECT_EQ(Exp(1000.0), std::numeric_limits<double>::infinity());
  EXPECT_NEAR(Exp(-740.0) / std::exp(-740.0), 1.0, 0.2);  // subnormal
  EXPECT_TRUE(std::isnan(Exp(std::nan(""))));
}

TEST(ScalarMath, LogIsWithinTwoUnitsOfDouble) {
  std::mt19937_64 rng(2);
  std::uniform_real_distribution<double> exponent(-300.0, 300.0);
  for (int i = 0; i < 100'000; ++i) {
    const double x = i % 2 == 0 ? std::exp2(exponent(rng)) : 1.0 + exponent(rng) / 1000.0;
    EXPECT_LE(RelativeError(Log(x), std::log(static_cast<long double>(x))), 5e-16) << x;
  }
  EXPECT_EQ(Log(1.0), 0.0);
  EXPECT_EQ(Log(0.0), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(Log(-1.0)));
}

TEST(ScalarMath, SineAndCosineHoldToLargeAngles) {
  std::mt19937_64 rng(3);
  for (const double range : {1.0, 100.0, 1e6, 2e9}) {
    std::uniform_real_distribution<double> uniform(-range, range);
    for (int i = 0; i < 50'000; ++i) {
      const double angle = uniform(rng);
      const SinCos value = SineCosine(angle);
      EXPECT_NEAR(value.sin, static_cast<double>(std::sin(static_cast<long double>(angle))), 1e-15) << angle;
      EXPECT_NEAR(value.cos, static_cast<double>(std::cos(static_cast<long double>(angle))), 1e-15) << angle;
    }
  }
  EXPECT_EQ(SineCosine(0.0).sin, 0.0);
  EXPECT_EQ(SineCosine(0.0).cos, 1.0);
}

}  // namespace
}  // namespace sluice::ops
