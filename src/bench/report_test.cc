#include "bench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/chart.h"
#include "bench/timeline.h"

namespace sluice::bench {
namespace {

using testing::HasSubstr;
using testing::Not;

size_t Count(const std::string& text, const std::string& word) {
  size_t count = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

TEST(MarkDistance, GivesFourToTenMarks) {
  for (const double highest : {1e-3, 0.7, 1.0, 1.99, 2.0, 4.9, 5.0, 9.9, 10.0, 123.0, 48500.0, 9.99e7}) {
    const double marks = highest / MarkDistance(highest);
    EXPECT_GE(marks, 3.9) << highest;
    EXPECT_LE(marks, 10.1) << highest;
  }
  EXPECT_EQ(MarkDistance(0.0), 1.0);
}

// The plane is 560 wide from 70 on and 260 high from 36 on; x is logarithmic from 1 to 16, y goes to 8.
TEST(Chart, DrawsPointsWhereTheyAre) {
  const std::string svg = RenderChart({"a < b", "x", "y", {{"s", {{1, 0}, {4, 4}, {16, 8}}}}});
  EXPECT_THAT(svg, HasSubstr("points=\"70.0,296.0 350.0,166.0 630.0,36.0 \""));
  EXPECT_THAT(svg, HasSubstr("a &lt; b"));
  EXPECT_EQ(Count(svg, "<circle"), 3U);
  // A narrow range is linear.
  EXPECT_THAT(RenderChart({"", "", "", {{"s", {{2, 8}, {3, 8}, {4, 8}}}}}),
              HasSubstr("70.0,36.0 350.0,36.0 630.0,36.0"));
}

TEST(Timeline, ComesBackFromItsJson) {
  trace::Span compute{2'000'000, 5'000'000, trace::SpanKind::kCompute, 1, 0};
  trace::Span idle{0, 2'000'000, trace::SpanKind::kIdle, 1, 0};
  const std::vector<trace::Lane> lanes{{"stage 0 lane 0", 0, {idle, compute}}, {"stage 1 lane 0", 1, {}}};
  const Json json = TimelineJson(lanes);
  EXPECT_EQ(json.dump(), R"([{"label":"stage 0 lane 0","stage":0,"spans":[[0.0,3000.0,1]]},)"
                         R"({"label":"stage 1 lane 0","stage":1,"spans":[]}])");
  const auto back = LanesOf(json);
  ASSERT_EQ(back.size(), 2U);
  EXPECT_EQ(back[0].spans[0].end_ns, 3'000'000);
  EXPECT_EQ(back[0].spans[0].step, 1);
  EXPECT_EQ(back[1].stage, 1);
  EXPECT_THROW(LanesOf(Json::parse(R"([{"label": 1}])")), std::exception);
}

Json Serve(int64_t input, int64_t concurrency) {
  return {{"kind", "serve"},           {"dataset_name", "<random>"},
          {"random_input_len", input}, {"max_concurrency", concurrency},
          {"median_ttft_ms", 10.0},    {"output_throughput", 5.0},
          {"total_throughput", 50.0}};
}

Json Prefill(int64_t chunk) {
  return {{"kind", "prefill"},
          {"input_len", 4000},
          {"chunk_size", chunk},
          {"bubble", 0.25},
          {"median_ttft_ms", 1.0}};
}

TEST(Report, HasTheChartsOfWhatVaries) {
  const std::string page =
      RenderReport({Serve(100, 1), Serve(100, 2), Serve(200, 1), Prefill(256), Prefill(512)});
  EXPECT_THAT(page, HasSubstr("TTFT over context, at the server"));
  EXPECT_THAT(page, HasSubstr("Throughput over concurrency"));
  EXPECT_THAT(page, HasSubstr("Bubble over chunk size"));
  EXPECT_THAT(page, Not(HasSubstr("TTFT over context, engine alone"))) << "one length only";
  EXPECT_THAT(page, HasSubstr("&lt;random&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("<script"))) << "nothing runs";
  EXPECT_EQ(Count(page, "http"), Count(page, "http://www.w3.org/2000/svg")) << "nothing is fetched";
  EXPECT_EQ(Count(page, "<svg"), Count(page, "</svg>"));
  EXPECT_EQ(Count(RenderReport({Serve(100, 1)}), "<svg"), 0U) << "one point is no line";
}

}  // namespace
}  // namespace sluice::bench
