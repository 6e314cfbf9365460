#include "pipeline/hop.h"

#include <gtest/gtest.h>

#include "comm/thread_world.h"

namespace sluice::pipeline {
namespace {

// By stage, of hops whose pending receives hold `sms`.
std::vector<int> BudgetsOf(int stages, int sms) {
  auto world = comm::MakeThreadWorld(2 * stages, std::chrono::seconds(1), HostMemory(), {sms, nullptr});
  std::vector<int> budgets;
  for (int rank = 0; rank < 2 * stages; ++rank) {
    const Hop hop(*world[rank], {stages, 2, 1, 1}, rank,
                  std::vector<HopLayout>(static_cast<size_t>(stages), {{{kHidden, 8}}}), 1);
    budgets.push_back(hop.budget().held);
    // What is held is what is pending while the rank computes.
    if (stages > 1) {
      EXPECT_EQ(hop.PostsAhead(), sms == 0 || hop.budget().held > 0);
    }
  }
  return budgets;
}

TEST(Hop, AReceiveThatHoldsSmsTakesThemFromAllStagesButTheLast) {
  EXPECT_EQ(BudgetsOf(1, 2), (std::vector<int>{0, 0}));
  EXPECT_EQ(BudgetsOf(2, 2), (std::vector<int>{2, 2, 0, 0}));
  EXPECT_EQ(BudgetsOf(3, 1), (std::vector<int>{1, 1, 1, 1, 0, 0}));
  EXPECT_EQ(BudgetsOf(3, 0), (std::vector<int>{0, 0, 0, 0, 0, 0}));
}

TEST(SmBudget, LeavesAtLeastOne) {
  EXPECT_EQ(SmBudget{}.Left(132), 132);
  EXPECT_EQ(SmBudget{1}.Left(132), 131);
  EXPECT_EQ(SmBudget{200}.Left(132), 1);
}

}  // namespace
}  // namespace sluice::pipeline
