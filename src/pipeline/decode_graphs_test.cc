#include "pipeline/decode_graphs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::pipeline {
namespace {

using testing::ElementsAre;

TEST(DecodeGraphs, AreOfTheRowsThatStepsCanHave) {
  EXPECT_THAT(DecodeGraphs::Recordable({8, 1, 8, 300, 0}, {512, 400, 1000}, 1), ElementsAre(1, 8, 300));
  EXPECT_THAT(DecodeGraphs::Recordable({1, 8, 300}, {512, 4, 1000}, 1), ElementsAre(1));
  EXPECT_THAT(DecodeGraphs::Recordable({1, 8, 300}, {7, 400, 1000}, 1), ElementsAre(1));
  // The host plans the experts of a larger step over several lanes.
  EXPECT_THAT(DecodeGraphs::Recordable({256, 257}, {512, 400, 1000}, 2), ElementsAre(256));
  EXPECT_THAT(DecodeGraphs::Recordable({1, 8}, {0, 0, 0}, 1), ElementsAre());
}

}  // namespace
}  // namespace sluice::pipeline
