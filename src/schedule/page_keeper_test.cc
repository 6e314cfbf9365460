#include "schedule/page_keeper.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace sluice::schedule {
namespace {

std::vector<int32_t> TextOf(int64_t pages, int32_t first = 0) {
  std::vector<int32_t> text(static_cast<size_t>(pages * 64));
  for (size_t i = 0; i < text.size(); ++i) text[i] = first + static_cast<int32_t>(i);
  return text;
}

void ExpectCounts(const PageKeeper& keeper, int64_t free, int64_t cached) {
  EXPECT_EQ(keeper.free(), free);
  EXPECT_EQ(keeper.cached(), cached);
}

TEST(PageKeeper, WrittenPagesStayForTheSameTextAndTheOthersAreFree) {
  PageKeeper keeper(10, true);
  HeldPages first;
  const auto text = TextOf(3);
  ASSERT_TRUE(keeper.Start(first, keeper.Find("", text, 9), 4, 0));
  keeper.Commit(first, "", text, 3);
  EXPECT_EQ(keeper.WouldReturn(first), 4);
  const std::vector<int32_t> pages = first.table;
  keeper.Return(first);
  ExpectCounts(keeper, 7, 3);

  HeldPages second;
  ASSERT_TRUE(keeper.Start(second, keeper.Find("", text, 2), 3, 0));
  EXPECT_EQ(second.table[0], pages[0]);
  EXPECT_EQ(second.table[1], pages[1]);
  ExpectCounts(keeper, 6, 1);
  // The same text once more is a page of its own, which is not kept: there is one already.
  keeper.Commit(second, "", text, 3);
  EXPECT_EQ(second.path[2], pages[2]);
  EXPECT_NE(second.table[2], pages[2]);
  keeper.Return(second);
  ExpectCounts(keeper, 7, 3);
  keeper.Flush();
  ExpectCounts(keeper, 10, 0);
}

TEST(PageKeeper, SharedPagesComeBackWithTheLastWhoHoldsThem) {
  PageKeeper keeper(10, true);
  HeldPages first;
  HeldPages second;
  const auto text = TextOf(2);
  ASSERT_TRUE(keeper.Start(first, {}, 2, 0));
  keeper.Commit(first, "", text, 2);
  ASSERT_TRUE(keeper.Start(second, keeper.Find("", text, 9), 3, 0));
  EXPECT_EQ(keeper.WouldReturn(first), 0);
  EXPECT_EQ(keeper.WouldReturn(second), 1);
  keeper.Return(first);
  ExpectCounts(keeper, 7, 0);
  keeper.Return(second);
  ExpectCounts(keeper, 8, 2);
}

TEST(PageKeeper, CachedPagesAreGivenUpWhenPagesAreNeededButNotTheOnesFound) {
  PageKeeper keeper(4, true);
  HeldPages first;
  const auto text = TextOf(2);
  ASSERT_TRUE(keeper.Start(first, {}, 2, 0));
  keeper.Commit(first, "", text, 2);
  keeper.Return(first);
  ExpectCounts(keeper, 2, 2);
  HeldPages second;
  EXPECT_FALSE(keeper.Start(second, keeper.Find("", text, 2), 4, 1)) << "one is to be spared";
  ExpectCounts(keeper, 2, 2);
  EXPECT_FALSE(keeper.Start(second, keeper.Find("", text, 2), 5, 0));
  ASSERT_TRUE(keeper.Start(second, keeper.Find("", text, 1), 4, 0)) << "the other one is given up";
  ExpectCounts(keeper, 0, 0);
  EXPECT_FALSE(keeper.Grow(second));
  keeper.Shrink(second);
  EXPECT_TRUE(keeper.Grow(second));
  keeper.Return(second);
  ExpectCounts(keeper, 3, 1);
}

TEST(PageKeeper, WithoutPrefixesNothingIsKept) {
  PageKeeper keeper(4, false);
  HeldPages held;
  const auto text = TextOf(2);
  ASSERT_TRUE(keeper.Start(held, {}, 2, 0));
  keeper.Commit(held, "", text, 2);
  keeper.Return(held);
  ExpectCounts(keeper, 4, 0);
  EXPECT_TRUE(keeper.Find("", text, 2).empty());
}

}  // namespace
}  // namespace sluice::schedule
