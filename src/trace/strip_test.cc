#include "trace/strip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::trace {
namespace {

// Two stages, three steps of 10 ns: stage 1 begins when stage 0 has its first step done.
std::vector<Lane> TwoStages() {
  std::vector<Lane> lanes = {{"stage 0", 0, {}}, {"stage 1", 1, {}}};
  for (int64_t step = 0; step < 3; ++step) {
    lanes[0].spans.push_back({100 + 10 * step, 110 + 10 * step, SpanKind::kCompute, step, 0});
    lanes[1].spans.push_back({110 + 10 * step, 120 + 10 * step, SpanKind::kCompute, step, 0});
  }
  lanes[1].spans.push_back({0, 110, SpanKind::kIdle, -1, 0});
  return lanes;
}

TEST(Strip, LettersWhereALaneComputesDotsWhereItWaits) {
  const auto lines = RenderStrip(TwoStages(), 8);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_THAT(lines[0], testing::EndsWith("|AABBCC..|"));
  EXPECT_THAT(lines[1], testing::EndsWith("|..AABBCC|"));
}

TEST(Strip, AFullPipeCannotAvoidTheLongestStepForEachFurtherStage) {
  EXPECT_DOUBLE_EQ(PipelineFloor(TwoStages()), 0.25);  // (2 - 1) x 10 / 40
}

TEST(Strip, TheSvgHasARectangleForEachStepAndTheTitle) {
  const std::string svg = RenderSvg(TwoStages(), "title here");
  EXPECT_THAT(svg, testing::HasSubstr("title here"));
  EXPECT_THAT(svg, testing::HasSubstr("<title>step 2: 0.0 ms</title>"));
}

TEST(Strip, AnSvgOfFewSpansHasTheDurationOfEach) {
  const std::vector<Lane> lanes = {
      {"receive", 0, {{0, 3'250'000, SpanKind::kHopWait, 0, 0}}},
      {"scoring", 0, {{500'000, 1'812'000, SpanKind::kCompute, 0, 0}, {0, 400'000, SpanKind::kIdle, 0, 0}}}};
  const std::string svg = RenderSvg(lanes, "before", SvgDetail::kDurations);
  EXPECT_THAT(svg, testing::HasSubstr(">3.250 ms</text>"));
  EXPECT_THAT(svg, testing::HasSubstr(">1.312 ms</text>"));
  EXPECT_THAT(svg, testing::HasSubstr("time, 3.2 ms in all"));
  EXPECT_THAT(svg, testing::Not(testing::HasSubstr("0.400")));
}

TEST(Recorder, KeepsTheNewestSpansAndTheWaitInProgress) {
  Recorder recorder(3, 2);
  for (int64_t step = 0; step < 3; ++step) {
    recorder.SetPlace({step, 0, -1});
    const ScopedSpan span(&recorder, SpanKind::kCompute);
  }
  const auto spans = recorder.Spans();
  ASSERT_EQ(spans.size(), 2U);
  EXPECT_EQ(spans[0].step, 1);
  EXPECT_EQ(spans[1].step, 2);
  const uint64_t before = recorder.progress();
  {
    const ScopedWait wait(&recorder, "hop receive", 1);
    ASSERT_TRUE(recorder.CurrentWait().has_value());
    EXPECT_EQ(recorder.CurrentWait()->op, "hop receive");
    EXPECT_EQ(recorder.CurrentWait()->place.step, 2);
  }
  EXPECT_FALSE(recorder.CurrentWait().has_value());
  EXPECT_GT(recorder.progress(), before);
}

}  // namespace
}  // namespace sluice::trace
