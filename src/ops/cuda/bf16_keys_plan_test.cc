#include "ops/cuda/bf16_keys_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "ops/cuda/bf16_keys.h"

namespace sluice::ops::cuda {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

constexpr int64_t kAnyRoom = int64_t{1} << 40;

// Three pages of the first sequence, none of the second, one of the third.
TEST(Bf16KeysPlan, HasThePagesUpToTheLastRowOfEachSequence) {
  const std::vector<int32_t> first = {17, 3, 90, 4, 5}, second = {8, 9}, third = {40, 3};
  const std::vector<PageTable> pages = {first, second, third};
  std::vector<RowPlace> places(100, {0, 100});
  places[50] = {2, 63};
  places[51] = {0, 2 * kPageTokens};
  const Bf16KeysPlan plan = PlanBf16Keys(places, pages, 128, 2048, kAnyRoom);
  EXPECT_THAT(plan.cache_pages, ElementsAre(17, 3, 90, 40));
  ASSERT_EQ(plan.tables.size(), 3U);
  EXPECT_THAT(plan.tables[0], ElementsAre(0, 1, 2));
  EXPECT_THAT(plan.tables[1], ElementsAre());
  EXPECT_THAT(plan.tables[2], ElementsAre(3));
}

// Tables outlive a move.
TEST(Bf16KeysPlan, IsMoved) {
  const std::vector<int32_t> table = {5, 6};
  const std::vector<PageTable> pages = {table};
  Bf16KeysPlan plan = PlanBf16Keys(std::vector<RowPlace>(100, {0, 127}), pages, 1, 2048, kAnyRoom);
  Bf16KeysPlan moved;
  moved = std::move(plan);
  EXPECT_THAT(moved.tables.at(0), ElementsAre(0, 1));
}

// 32 pages and 2,048 keys of each row: keys are attended to once for each row and 64 heads.
TEST(Bf16KeysPlan, IsMadeWhereKeysAreAttendedToOftenEnoughAndFit) {
  std::vector<int32_t> table(32);
  std::iota(table.begin(), table.end(), 100);
  const std::vector<PageTable> pages = {table};
  const auto plan_of = [&](int64_t rows, int64_t heads, int64_t top_k, int64_t room) {
    const std::vector<RowPlace> places(static_cast<size_t>(rows), {0, 2047});
    return PlanBf16Keys(places, pages, heads, top_k, room).cache_pages;
  };
  EXPECT_THAT(plan_of(8, 64, 2048, kAnyRoom), ElementsAreArray(table));
  EXPECT_THAT(plan_of(8, 64, 4096, kAnyRoom), ElementsAreArray(table));  // no more than there are
  EXPECT_THAT(plan_of(7, 64, 4096, kAnyRoom), ElementsAre());
  EXPECT_THAT(plan_of(8, 64, 2047, kAnyRoom), ElementsAre());
  EXPECT_THAT(plan_of(8, 1, 2048, kAnyRoom), ElementsAreArray(table));
  EXPECT_THAT(plan_of(4, 65, 2048, kAnyRoom), ElementsAreArray(table));
  EXPECT_THAT(plan_of(3, 128, 2048, kAnyRoom), ElementsAre());
  EXPECT_THAT(plan_of(8, 64, 2048, 32 * kBf16PageBytes), ElementsAreArray(table));
  EXPECT_THAT(plan_of(8, 64, 2048, 32 * kBf16PageBytes - 1), ElementsAre());
}

// Keys of whole pages are dequantised: 128 of which 65 are attended to, 15 times or 16.
TEST(Bf16KeysPlan, CountsWholePages) {
  const std::vector<int32_t> table = {1, 0};
  const std::vector<PageTable> pages = {table};
  EXPECT_TRUE(PlanBf16Keys(std::vector<RowPlace>(15, {0, 64}), pages, 64, 2048, kAnyRoom).tables.empty());
  EXPECT_FALSE(PlanBf16Keys(std::vector<RowPlace>(16, {0, 64}), pages, 64, 2048, kAnyRoom).tables.empty());
}

// A row of each of two sequences of 1,000 pages, and 200 rows of one of 32.
TEST(Bf16KeysPlan, LeavesRowsBeforeToTheCache) {
  std::vector<int32_t> longer(1000);
  std::iota(longer.begin(), longer.end(), 5000);
  std::vector<int32_t> table(32);
  std::iota(table.begin(), table.end(), 100);
  const std::vector<PageTable> pages = {longer, longer, table};
  std::vector<RowPlace> places = {{0, 63999}, {1, 63999}};
  places.resize(202, {2, 2047});
  const Bf16KeysPlan plan = PlanBf16Keys(places, pages, 128, 2048, kAnyRoom);
  EXPECT_EQ(plan.first_row, 2);
  EXPECT_THAT(plan.cache_pages, ElementsAreArray(table));
  ASSERT_EQ(plan.tables.size(), 3U);
  EXPECT_THAT(plan.tables[0], ElementsAreArray(longer));
  EXPECT_THAT(plan.tables[1], ElementsAreArray(longer));
  EXPECT_EQ(plan.tables[2].size(), 32U);
  EXPECT_EQ(plan.tables[2].front(), 0);
  EXPECT_EQ(plan.tables[2].back(), 31);
  // A launch more would cost more than that saves.
  EXPECT_THAT(PlanBf16Keys(std::span(places).first(100), pages, 128, 2048, kAnyRoom).cache_pages,
              ElementsAre());
  // They are behind, or between.
  std::swap(places.front(), places.back());
  EXPECT_THAT(PlanBf16Keys(places, pages, 128, 2048, kAnyRoom).cache_pages, ElementsAre());
  std::ranges::reverse(places);
  EXPECT_THAT(PlanBf16Keys(places, pages, 128, 2048, kAnyRoom).cache_pages, ElementsAre());
}

// Few keys of rows before are dequantised with the others.
TEST(Bf16KeysPlan, TakesRowsBeforeAlongWhereTheirKeysAreFew) {
  const std::vector<int32_t> first = {7, 8}, second = {1, 2, 3};
  const std::vector<PageTable> pages = {first, second};
  std::vector<RowPlace> places = {{0, 127}};
  places.resize(5000, {1, 191});
  const Bf16KeysPlan plan = PlanBf16Keys(places, pages, 128, 2048, kAnyRoom);
  EXPECT_EQ(plan.first_row, 0);
  EXPECT_THAT(plan.cache_pages, ElementsAre(7, 8, 1, 2, 3));
  // But not where there is room for the others' alone.
  const Bf16KeysPlan tight = PlanBf16Keys(places, pages, 128, 2048, 4 * kBf16PageBytes);
  EXPECT_EQ(tight.first_row, 1);
  EXPECT_THAT(tight.cache_pages, ElementsAre(1, 2, 3));
}

TEST(Bf16KeysPlan, RefusesPositionsBehindTheTable) {
  const std::vector<int32_t> table = {1, 0};
  const std::vector<PageTable> pages = {table};
  EXPECT_THROW(PlanBf16Keys(std::vector<RowPlace>(100, {0, 128}), pages, 64, 2048, kAnyRoom), Error);
}

}  // namespace
}  // namespace sluice::ops::cuda
