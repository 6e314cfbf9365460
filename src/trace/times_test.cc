#include "trace/times.h"

#include <gtest/gtest.h>

namespace sluice::trace {
namespace {

// Two stages, three steps of 10 ns, the second stage 10 ns behind and 2 ns of each step in a collective:
// 40 ns in all, of which each rank spends 24 in compute and 6 in collectives.
TEST(BusyShares, PartsOfEveryStageAddUpToOne) {
  const std::vector<BusyPeriod> ranks = {{5, 100, 130, {24, 6, 0, 0}}, {5, 101, 140, {24, 6, 9, 0}}};
  const auto busy = BusySharesOf(ranks, std::vector<int32_t>{0, 1});
  ASSERT_TRUE(busy.has_value());
  EXPECT_DOUBLE_EQ(busy->seconds, 40e-9);
  EXPECT_DOUBLE_EQ(busy->all.compute, 48.0 / 80);
  EXPECT_DOUBLE_EQ(busy->all.wait, 12.0 / 80);
  EXPECT_DOUBLE_EQ(busy->all.hop, 9.0 / 80);
  EXPECT_DOUBLE_EQ(busy->all.idle, 11.0 / 80);  // 10 at the end of stage 0, 1 at the begin of stage 1
  EXPECT_DOUBLE_EQ(busy->all.bubble(), 32.0 / 80);
  ASSERT_EQ(busy->stages.size(), 2U);
  EXPECT_DOUBLE_EQ(busy->stages[0].idle, 10.0 / 40);
  EXPECT_DOUBLE_EQ(busy->stages[1].bubble(), 16.0 / 40);
  for (const Shares& shares : busy->stages) {
    EXPECT_DOUBLE_EQ(shares.compute + shares.wait + shares.hop + shares.idle, 1.0);
  }
}

TEST(BusyShares, ARankThatHasNotBegunTheLatestPeriodIsIdleInIt) {
  const std::vector<BusyPeriod> ranks = {{9, 200, 220, {20, 0, 0, 0}}, {5, 101, 140, {39, 0, 0, 0}}};
  const auto busy = BusySharesOf(ranks, std::vector<int32_t>{0, 1});
  ASSERT_TRUE(busy.has_value());
  EXPECT_DOUBLE_EQ(busy->all.compute, 0.5);
  EXPECT_DOUBLE_EQ(busy->stages[1].idle, 1.0);
}

TEST(BusyShares, ThereAreNoneBeforeTheFirstPass) {
  EXPECT_FALSE(BusySharesOf(std::vector<BusyPeriod>(2), std::vector<int32_t>{0, 0}).has_value());
}

}  // namespace
}  // namespace sluice::trace
