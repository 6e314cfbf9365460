#include "engine/prefill_rate.h"

#include <gtest/gtest.h>

#include "engine/test_times.h"

namespace sluice::engine {
namespace {

TEST(PrefillRate, IsRowsByTheTimeInWhichTheStepWasNext) {
  PrefillRate rate;
  EXPECT_EQ(rate.rows_per_second(), 0.0);
  rate.Published(1000, 10 * kSecond);
  rate.Published(1000, 10 * kSecond);
  EXPECT_EQ(rate.rows_per_second(), 0.0);
  rate.Completed(12 * kSecond);
  EXPECT_DOUBLE_EQ(rate.rows_per_second(), 500.0);
  rate.Completed(14 * kSecond);  // two seconds after the one before it, not four after it was published
  EXPECT_DOUBLE_EQ(rate.rows_per_second(), 500.0);
}

TEST(PrefillRate, IdleTimeAndDecodesDoNotCountAndTheLatestCountMost) {
  PrefillRate rate;
  rate.Published(1000, 0);
  rate.Completed(1 * kSecond);
  rate.Published(0, 50 * kSecond);
  rate.Completed(60 * kSecond);
  EXPECT_DOUBLE_EQ(rate.rows_per_second(), 1000.0);
  int64_t now = 100 * kSecond;
  for (int i = 0; i < 200; ++i) {
    rate.Published(100, now);
    rate.Completed(now += kSecond);
  }
  EXPECT_NEAR(rate.rows_per_second(), 100.0, 1.0);
}

}  // namespace
}  // namespace sluice::engine
