#include "parallel/grid.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace sluice::parallel {
namespace {

TEST(Grid, NumbersEveryRankOnceStageByStage) {
  for (int stages = 1; stages <= 5; ++stages) {
    for (int lanes = 1; lanes <= 5; ++lanes) {
      const Grid grid = MakeGrid(stages, lanes, lanes);
      EXPECT_EQ(grid.world(), stages * lanes);
      int next = 0;
      for (int stage = 0; stage < stages; ++stage) {
        std::vector<int> expected;
        for (int lane = 0; lane < lanes; ++lane, ++next) {
          EXPECT_EQ(grid.Rank(stage, lane), next);
          EXPECT_EQ(grid.StageOf(next), stage);
          EXPECT_EQ(grid.LaneOf(next), lane);
          expected.push_back(next);
        }
        EXPECT_EQ(grid.RanksOfStage(stage), expected);
      }
    }
  }
}

TEST(Grid, HeadGroupsAreNeighbouringLanes) {
  const Grid grid = MakeGrid(3, 8, 4, 2);
  EXPECT_EQ(grid, (Grid{3, 8, 2, 2}));
  EXPECT_EQ(grid.layer_ranges(), 6);
  EXPECT_EQ(grid.RanksOfHeadGroup(0), (std::vector<int>{0, 1}));
  EXPECT_EQ(grid.RanksOfHeadGroup(1), (std::vector<int>{0, 1}));
  EXPECT_EQ(grid.RanksOfHeadGroup(21), (std::vector<int>{20, 21}));
  for (int lane = 0; lane < 8; ++lane) EXPECT_EQ(grid.HeadShardOf(lane), lane % 2);
  EXPECT_EQ(MakeGrid(1, 6, 1).RanksOfHeadGroup(3), (std::vector<int>{0, 1, 2, 3, 4, 5}));
}

struct GridRefusal {
  int64_t pp, tp, cp, virtual_stages;
  std::string sentence;
};

TEST(Grid, RefusesWithTheNearestLayoutThatWorks) {
  const GridRefusal refusals[] = {
      {0, 1, 1, 1, "--pp-size is 0; it must be from 1 to 128: use --pp-size 1"},
      {129, 1, 1, 1, "--pp-size is 129; it must be from 1 to 128: use --pp-size 128"},
      {1, -3, 1, 1, "--tp is -3; it must be from 1 to 64: use --tp 1"},
      {1, 65, 65, 1, "--tp is 65; it must be from 1 to 64: use --tp 64"},
      {1, 4, 0, 1, "--attn-cp-size is 0; it must be from 1 to 64: use --attn-cp-size 1"},
      {1, 4, 5000000000, 1, "--attn-cp-size is 5000000000; it must be from 1 to 64: use --attn-cp-size 64"},
      {2, 8, 3, 1,
       "--tp 8 cannot be divided into groups of --attn-cp-size 3: use --attn-cp-size 2, or --tp 9"},
      {2, 2, 4, 1,
       "--tp 2 cannot be divided into groups of --attn-cp-size 4: use --attn-cp-size 2, or --tp 4"},
      {2, 2, 2, 17, "--pp-virtual-stages is 17; it must be from 1 to 16: use --pp-virtual-stages 16"},
  };
  for (const GridRefusal& refusal : refusals) {
    try {
      MakeGrid(refusal.pp, refusal.tp, refusal.cp, refusal.virtual_stages);
      ADD_FAILURE() << "accepted: " << refusal.sentence;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_EQ(error.what(), refusal.sentence);
    }
  }
}

}  // namespace
}  // namespace sluice::parallel
