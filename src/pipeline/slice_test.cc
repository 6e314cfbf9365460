#include <gtest/gtest.h>

#include "pipeline/rank.h"

namespace sluice::pipeline {
namespace {

// Two stages of two lanes with two ranges each: what the ranks hold.
TEST(SliceOf, RangesOfAStageAndWhatItsEndsHold) {
  RankOptions options;
  options.grid = {2, 2, 1, 2};
  options.layer_cut = {{0, 3}, {3, 5}, {5, 7}, {7, 9}};
  options.load_nextn = true;
  for (int rank = 0; rank < options.grid.world(); ++rank) {
    SCOPED_TRACE(rank);
    options.rank = rank;
    const model::StageSlice slice = SliceOf(options);
    const bool last = rank >= 2;
    ASSERT_EQ(slice.layers.size(), 2U);
    EXPECT_EQ(slice.layers[0].begin, last ? 3 : 0);
    EXPECT_EQ(slice.layers[1].begin, last ? 7 : 5);
    EXPECT_EQ(slice.lane, rank % 2);
    EXPECT_EQ(slice.first, !last);
    EXPECT_EQ(slice.last, last);
    EXPECT_EQ(slice.nextn, last);
  }
  options.load_nextn = false;
  EXPECT_FALSE(SliceOf(options).nextn);
}

}  // namespace
}  // namespace sluice::pipeline
