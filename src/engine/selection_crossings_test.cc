#include "engine/selection_crossings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Indexers as letters: F has one, S shares.
checkpoint::ModelConfig ConfigOf(const std::string& indexers) {
  checkpoint::ModelConfig config;
  config.num_hidden_layers = std::ssize(indexers);
  for (const char letter : indexers) config.shares_selection.push_back(letter == 'S');
  config.hidden_size = 6144;
  config.index_topk = 2048;
  return config;
}

std::vector<parallel::LayerRange> CutOf(const std::vector<int64_t>& sizes) {
  std::vector<parallel::LayerRange> cut;
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    cut.push_back({begin, begin + size});
    begin += size;
  }
  return cut;
}

// GLM-5.2 in halves: layer 39 shares what layer 38 has selected.
TEST(SelectionCrossings, OfGlm52InHalves) {
  std::string indexers = "FFF";
  while (indexers.size() < 78) indexers += "SSSF";
  indexers.resize(78);
  const auto config = ConfigOf(indexers);
  const auto crossings = SelectionCrossingsOf(config, CutOf({39, 39}));
  ASSERT_EQ(crossings.size(), 1U);
  EXPECT_EQ(crossings[0].range, 1);
  EXPECT_EQ(crossings[0].layer, 39);
  EXPECT_EQ(crossings[0].source, 38);
  EXPECT_EQ(
      SelectionLine(config, CutOf({39, 39}), ops::Numerics::kFp8),
      "selections cross the hop to layer 39, which shares that of layer 38: 8192 bytes a row, beside 12288 "
      "of hidden state; --pp-layer-partition 38,40 avoids it");
  EXPECT_EQ(SelectionLine(config, CutOf({38, 40}), ops::Numerics::kFp8), "");
}

TEST(SelectionCrossings, ARangeOfSharedLayersAlonePassesItOn) {
  const auto config = ConfigOf("FSSSSF");
  const auto crossings = SelectionCrossingsOf(config, CutOf({2, 2, 2}));
  ASSERT_EQ(crossings.size(), 2U);
  EXPECT_EQ(crossings[0].source, 0);
  EXPECT_EQ(crossings[1].source, 0);
  EXPECT_EQ(crossings[1].layer, 4);
  // Two layers with an indexer cannot begin three ranges.
  EXPECT_THAT(SizesWithoutCrossings(config, CutOf({2, 2, 2})), IsEmpty());
  EXPECT_THAT(SizesWithoutCrossings(config, CutOf({3, 3})), ElementsAre(5, 1));
}

TEST(SelectionCrossings, ThereAreNoneWhereEveryLayerHasAnIndexer) {
  EXPECT_THAT(SelectionCrossingsOf(ConfigOf("FFFF"), CutOf({1, 3})), IsEmpty());
  EXPECT_EQ(SelectionLine(ConfigOf("FFFF"), CutOf({1, 3}), ops::Numerics::kExact), "");
}

}  // namespace
}  // namespace sluice::engine
