#include "schedule/page_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "base/error.h"

namespace sluice::schedule {
namespace {

TEST(PagePool, HandsOutEveryPageOnceAndTakesThemBack) {
  constexpr int64_t kPages = 50;
  PagePool pool(kPages);
  std::mt19937 random(4);
  std::vector<std::vector<int32_t>> owners;
  std::set<int32_t> used;
  for (int round = 0; round < 5000; ++round) {
    if (random() % 2 == 0) {
      const auto count = static_cast<int64_t>(random() % 9);
      if (count > pool.free()) continue;
      owners.push_back(pool.Take(count));
      ASSERT_EQ(static_cast<int64_t>(owners.back().size()), count);
      for (const int32_t page : owners.back()) {
        ASSERT_TRUE(page >= 0 && page < kPages);
        ASSERT_TRUE(used.insert(page).second) << "page " << page << " has two owners";
      }
    } else if (!owners.empty()) {
      std::swap(owners[random() % owners.size()], owners.back());
      pool.Return(owners.back());
      for (const int32_t page : owners.back()) used.erase(page);
      owners.pop_back();
    }
    ASSERT_EQ(pool.used(), static_cast<int64_t>(used.size()));
    ASSERT_EQ(pool.used() + pool.free(), kPages);
  }
}

TEST(PagePool, RefusesWhatItCannotGiveOrNeverGave) {
  PagePool pool(3);
  EXPECT_EQ(pool.pages(), 3);
  EXPECT_THROW(pool.Take(4), Error);
  EXPECT_THROW(pool.Take(-1), Error);
  const std::vector<int32_t> pages = pool.Take(2);
  EXPECT_THROW(pool.Take(2), Error);
  pool.Return(pages);
  EXPECT_THROW(pool.Return(pages), Error);
  EXPECT_THROW(pool.Return(std::vector<int32_t>{3}), Error);
  EXPECT_THROW(pool.Return(std::vector<int32_t>{-1}), Error);
  EXPECT_EQ(pool.free(), 3);
  EXPECT_THROW(PagePool(-1), Error);
  EXPECT_EQ(PagePool(0).free(), 0);
}

}  // namespace
}  // namespace sluice::schedule
