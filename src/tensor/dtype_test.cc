#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sluice {
namespace {

TEST(F8E4M3, EveryCodeReadsBackAsItself) {
  for (int code = 0; code < 256; ++code) {
    const F8E4M3 value{static_cast<uint8_t>(code)};
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(ToFloat(value)));
      continue;
    }
    EXPECT_EQ(ToF8E4M3(ToFloat(value)).bits, code);
  }
}

TEST(F8E4M3, RoundsToTheNearestCodeTiesToEven) {
  for (int code = 0; code < 0x7e; ++code) {
    const float low = ToFloat(F8E4M3{static_cast<uint8_t>(code)});
    const float high = ToFloat(F8E4M3{static_cast<uint8_t>(code + 1)});
    const float middle = (low + high) / 2;
    EXPECT_EQ(ToF8E4M3(std::nextafter(middle, 0.0F)).bits, code);
    EXPECT_EQ(ToF8E4M3(std::nextafter(middle, 1e9F)).bits, code + 1);
    EXPECT_EQ(ToF8E4M3(middle).bits & 1, 0) << "tie at " << middle;
    EXPECT_EQ(ToF8E4M3(-middle).bits, ToF8E4M3(middle).bits | 0x80);
  }
  EXPECT_EQ(ToFloat(ToF8E4M3(1e30F)), 448.0F);
}

TEST(BF16, RoundsToNearestTiesToEven) {
  EXPECT_EQ(RoundToBF16(1.0F), 1.0F);
  EXPECT_EQ(RoundToBF16(1.0F + 1.0F / 256), 1.0F);
  EXPECT_EQ(RoundToBF16(1.0F + 3.0F / 256), 1.0F + 2.0F / 128);
  EXPECT_TRUE(std::isnan(RoundToBF16(std::nanf(""))));
}

TEST(PowerOfTwoScale, IsTheSmallestPowerThatHoldsTheBlock) {
  EXPECT_EQ(PowerOfTwoScale(448.0F), 1.0F);
  EXPECT_EQ(PowerOfTwoScale(449.0F), 2.0F);
  EXPECT_EQ(PowerOfTwoScale(0.0F), std::ldexp(1.0F, -22));  // the 1e-4 floor
}

TEST(Half, ConvertsExactly) {
  EXPECT_EQ(HalfToFloat(0x3c00), 1.0F);
  EXPECT_EQ(HalfToFloat(0xc000), -2.0F);
  EXPECT_EQ(HalfToFloat(0x0001), std::ldexp(1.0F, -24));
  EXPECT_TRUE(std::isinf(HalfToFloat(0x7c00)));
}

}  // namespace
}  // namespace sluice
