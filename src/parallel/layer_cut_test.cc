#include "parallel/layer_cut.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>

#include "base/error.h"

namespace sluice::parallel {
namespace {

TEST(LayerCut, DefaultCoversAllLayersInOrderAndGrowsTowardsTheEnd) {
  for (int64_t layers = 1; layers <= 80; ++layers) {
    for (int stages = 1; stages <= std::min<int64_t>(layers, 12); ++stages) {
      const auto cut = DefaultLayerCut(layers, stages);
      ASSERT_EQ(static_cast<int>(cut.size()), stages);
      EXPECT_EQ(cut.front().begin, 0);
      EXPECT_EQ(cut.back().end, layers);
      for (size_t s = 1; s < cut.size(); ++s) {
        EXPECT_EQ(cut[s].begin, cut[s - 1].end);
        EXPECT_GE(cut[s].size(), cut[s - 1].size());
      }
      EXPECT_GE(cut.front().size(), 1);
      EXPECT_LE(cut.back().size() - cut.front().size(), 1);
    }
  }
}

TEST(LayerCut, SixtyOneLayers) {
  EXPECT_EQ(DefaultLayerCut(61, 2), (std::vector<LayerRange>{{0, 30}, {30, 61}}));
  EXPECT_EQ(DefaultLayerCut(61, 4), (std::vector<LayerRange>{{0, 15}, {15, 30}, {30, 45}, {45, 61}}));
  const std::vector<int64_t> sizes = {31, 30};
  EXPECT_EQ(ExplicitLayerCut(61, 2, sizes), (std::vector<LayerRange>{{0, 31}, {31, 61}}));
}

TEST(LayerCut, VirtualStagesCutTheModelFiner) {
  EXPECT_EQ(DefaultLayerCut(61, 2, 2), DefaultLayerCut(61, 4));
  const std::vector<int64_t> sizes = {15, 15, 15, 16};
  EXPECT_EQ(ExplicitLayerCut(61, 2, sizes, 2), DefaultLayerCut(61, 4));
  const auto sentence = [](const auto& cut) {
    try {
      cut();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(
      sentence([] { DefaultLayerCut(7, 3, 3); }),
      "--pp-size 3 with --pp-virtual-stages 3 needs at least one layer for each of 9 layer ranges, and the "
      "model has 7: use --pp-virtual-stages 2");
  EXPECT_EQ(
      sentence([] { DefaultLayerCut(2, 3, 2); }),
      "--pp-size 3 with --pp-virtual-stages 2 needs at least one layer for each of 6 layer ranges, and the "
      "model has 2: use --pp-size 2 or less, without --pp-virtual-stages");
  EXPECT_EQ(sentence([] {
              ExplicitLayerCut(61, 2, std::vector<int64_t>{30, 31}, 2);
            }),
            "--pp-layer-partition 30,31 has 2 entries for 4 virtual stages; the default cut is 15,15,15,16");
}

struct CutRefusal {
  int64_t layers;
  int stages;
  std::vector<int64_t> sizes;  // empty: the default cut is asked for
  std::string sentence;
};

TEST(LayerCut, RefusesShowingTheDefaultCut) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const CutRefusal refusals[] = {
      {3,
       4,
       {},
       "--pp-size 4 needs at least one layer for every stage, and the model has 3: use --pp-size 3 or less"},
      {3,
       4,
       {1, 1, 1, 0},
       "--pp-size 4 needs at least one layer for every stage, and the model has 3: use --pp-size 3 or less"},
      {61,
       2,
       {20, 20, 21},
       "--pp-layer-partition 20,20,21 has 3 entries for 2 stages; the default cut is 30,31"},
      {61,
       2,
       {61, 0},
       "--pp-layer-partition 61,0 gives a stage 0 layers, and every stage needs at least 1; the default cut "
       "is "
       "30,31"},
      {61,
       2,
       {62, -1},
       "--pp-layer-partition 62,-1 gives a stage -1 layers, and every stage needs at least 1; the default "
       "cut is "
       "30,31"},
      {61,
       2,
       {30, 30},
       "--pp-layer-partition 30,30 has 60 layers in all, and the model has 61; the default cut is 30,31"},
      {61,
       2,
       {kMost, 1},
       "--pp-layer-partition 9223372036854775807,1 has more layers than can be counted; the default cut is "
       "30,31"},
  };
  for (const CutRefusal& refusal : refusals) {
    try {
      refusal.sizes.empty() ? DefaultLayerCut(refusal.layers, refusal.stages)
                            : ExplicitLayerCut(refusal.layers, refusal.stages, refusal.sizes);
      ADD_FAILURE() << "accepted: " << refusal.sentence;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_EQ(error.what(), refusal.sentence);
    }
  }
}

}  // namespace
}  // namespace sluice::parallel
