#include "trace/clock_line.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace sluice::trace {
namespace {

// Whatever the two ways of a round trip take, the offset found is as close as it says.
TEST(ClockProbe, IsRightWithinItsError) {
  std::mt19937_64 random(7);
  std::exponential_distribution<double> delay(1.0 / 50'000.0);
  for (int run = 0; run < 200; ++run) {
    const auto offset = static_cast<int64_t>(random() % 2'000'000'000'000) - 1'000'000'000'000;
    ClockProbe probe;
    int64_t now = 1'000'000;
    int64_t shortest = INT64_MAX;
    for (int trip = 0; trip < 16; ++trip) {
      const int64_t sent = now;
      const int64_t read = sent + 5'000 + static_cast<int64_t>(delay(random));
      const int64_t heard = read + 5'000 + static_cast<int64_t>(delay(random));
      probe.Add(sent, heard, read + offset);
      shortest = std::min(shortest, heard - sent);
      now = heard + 1000;
    }
    const ClockPoint best = probe.best().value();
    EXPECT_LE(std::abs(best.offset_ns - offset), best.error_ns);
    EXPECT_EQ(best.error_ns, shortest - shortest / 2);
  }
}

TEST(ClockLine, IsStraightBetweenItsPoints) {
  EXPECT_EQ(ClockLine({}).Aligned(1234), 1234);
  const ClockLine one({{1000, 300, 7}});
  EXPECT_EQ(one.Aligned(5000), 4700);
  EXPECT_EQ(one.error_ns(), 7);
  const ClockLine two({{1000, 300, 7}, {2000, 320, 9}});
  EXPECT_EQ(two.Aligned(500), 200);
  EXPECT_EQ(two.Aligned(1000), 700);
  EXPECT_EQ(two.Aligned(1500), 1190);
  EXPECT_EQ(two.Aligned(2000), 1680);
  EXPECT_EQ(two.Aligned(3000), 2680);
  EXPECT_EQ(two.error_ns(), 9);
}

TEST(ClockIdentity, IsTheSameWithinAProcess) {
  EXPECT_FALSE(ClockIdentity().empty());
  EXPECT_EQ(ClockIdentity(), ClockIdentity());
}

}  // namespace
}  // namespace sluice::trace
