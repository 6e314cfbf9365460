#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "pipe_world.h"

// How full the pipe is, with timed sleeps in place of compute: real ranks, scheduler, frames and hops; what a
// pass costs is known beforehand, so the makespan can be held to the flow-shop law
//   makespan = sum of a stage's chunk times + (S - 1) x longest chunk / v
// Another process on the machine can only make a run longer, so the best of a few runs counts.
namespace sluice::pipe {
namespace {

using std::chrono::milliseconds;

constexpr double kBubbleBound = 0.05;   // of (S - 1) x longest chunk
constexpr double kReportBound = 0.02;   // reported bubble against that of the records
constexpr double kHiddenBound = 0.95;   // of the hops' time
constexpr double kVirtualBound = 0.03;  // points of the bubble's share
constexpr double kOverlapBound = 0.80;  // of a chunk's time
constexpr int kRuns = 10;

// The run of least `badness`, which ends the search when it is within `good`.
template <typename Badness>
Traced BestRun(const Pipe& pipe, int64_t chunks, double good, Badness badness) {
  PipeRunner runner(pipe);
  Traced best = runner.Run(chunks);
  for (int run = 1; run < kRuns && badness(best) > good; ++run) {
    Traced next = runner.Run(chunks);
    if (badness(next) < badness(best)) best = std::move(next);
  }
  return best;
}

struct Shape {
  int stages;
  bool growing;
};
void PrintTo(const Shape& shape, std::ostream* out) {
  *out << shape.stages << (shape.growing ? " growing" : " equal");
}

class Bubble : public testing::TestWithParam<Shape> {};

// As with a long prompt, where later chunks attend to more: 20 ms to 50 ms.
TEST_P(Bubble, IsTheLongestChunkForEachFurtherStage) {
  constexpr int64_t kChunks = 6;
  const Shape shape = GetParam();
  const Pipe pipe{.stages = shape.stages, .time = [&](int64_t chunk) -> Duration {
                    return shape.growing ? milliseconds(20 + 6 * std::min(chunk, kChunks - 1))
                                         : milliseconds(50);
                  }};
  const double theory = (shape.stages - 1) * Seconds(milliseconds(50));
  const auto bubble = [](const Traced& run) { return run.makespan() - run.compute(0); };
  const auto deviation = [&](const Traced& run) { return std::abs(bubble(run) / theory - 1.0); };
  const Traced run = BestRun(pipe, kChunks, kBubbleBound, deviation);
  EXPECT_LE(deviation(run), kBubbleBound)
      << fmt::format("measured {:.2f} ms, (S-1) x longest chunk {:.2f} ms", 1e3 * bubble(run), 1e3 * theory);

  // What /get_server_info says, from heartbeats alone.
  std::vector<int32_t> stages;
  double compute = 0.0;
  for (int stage = 0; stage < shape.stages; ++stage) {
    stages.push_back(stage);
    compute += run.compute(stage);
  }
  const auto busy = trace::BusySharesOf(run.periods, stages);
  ASSERT_TRUE(busy.has_value());
  EXPECT_NEAR(busy->all.bubble(), 1.0 - compute / (shape.stages * run.makespan()), kReportBound);
  fmt::print("S {} {}: bubble {:.2f} ms, (S-1) x longest chunk {:.2f} ms; reported share {:.3f}\n",
             shape.stages, shape.growing ? "growing" : "equal", 1e3 * bubble(run), 1e3 * theory,
             busy->all.bubble());
}

INSTANTIATE_TEST_SUITE_P(Stages, Bubble,
                         testing::Values(Shape{2, false}, Shape{3, false}, Shape{4, false}, Shape{2, true},
                                         Shape{3, true}, Shape{4, true}),
                         [](const auto& suite) {
                           return fmt::format("S{}{}", suite.param.stages,
                                              suite.param.growing ? "Growing" : "Equal");
                         });

// The first chunk's hop is part of the fill; all later ones travel while both stages compute.
TEST(FullPipe, AHopShorterThanAChunkIsHidden) {
  constexpr int64_t kChunks = 12;
  constexpr Duration kLink = milliseconds(25);
  const Pipe pipe{.stages = 2, .link = kLink, .time = [](int64_t) { return milliseconds(30); }};
  const auto exposed = [](const Traced& run) {
    int64_t waited = 0;
    for (size_t chunk = 1; chunk < run.passes[1].size(); ++chunk) waited += run.passes[1][chunk].times.hop_ns;
    for (const trace::PassTimes& pass : run.passes[0]) waited += pass.times.hop_ns;
    return Seconds(waited) / ((kChunks - 1) * Seconds(kLink));
  };
  const Traced run = BestRun(pipe, kChunks, 1.0 - kHiddenBound, exposed);
  EXPECT_GE(Seconds(run.passes[1][0].times.hop_ns), Seconds(kLink)) << "the link's latency was not applied";
  EXPECT_GE(1.0 - exposed(run), kHiddenBound);
  fmt::print("hidden {:.1f} % of {} hops of 25 ms beside chunks of 30 ms\n", 100.0 * (1.0 - exposed(run)),
             kChunks - 1);
}

// Fill cost (S - 1) x chunk / v.
TEST(FullPipe, TwoVirtualStagesHalveTheFill) {
  constexpr int64_t kChunks = 8;
  constexpr Duration kChunk = milliseconds(50);
  for (const int stages : {2, 4}) {
    for (const int v : {1, 2}) {
      const double fill = (stages - 1) * Seconds(kChunk) / v;
      const double theory = fill / (kChunks * Seconds(kChunk) + fill);
      const Pipe pipe{.stages = stages, .virtual_stages = v, .time = [&](int64_t) { return kChunk; }};
      const auto share = [&](const Traced& run) {
        double compute = 0.0;
        for (int stage = 0; stage < stages; ++stage) compute += run.compute(stage);
        return 1.0 - compute / (stages * run.makespan());
      };
      const auto deviation = [&](const Traced& run) { return std::abs(share(run) - theory); };
      const Traced run = BestRun(pipe, kChunks, kVirtualBound / 2, deviation);
      EXPECT_LE(deviation(run), kVirtualBound) << "S " << stages << " v " << v;
      fmt::print("S {} v {}: bubble {:.1f} %, the page says {:.1f} %\n", stages, v, 100.0 * share(run),
                 100.0 * theory);
    }
  }
}

TEST(FullPipe, ConsecutiveChunksOccupyConsecutiveStages) {
  constexpr int64_t kChunks = 6;
  constexpr Duration kChunk = milliseconds(40);
  const Pipe pipe{.stages = 3, .time = [](int64_t) { return kChunk; }};
  // Least time that stage s computes chunk k while the stage before computes chunk k + 1.
  const auto least_overlap = [](const Traced& run) {
    double least = 1e9;
    for (size_t stage = 1; stage < run.passes.size(); ++stage) {
      for (size_t k = 0; k + 1 < kChunks; ++k) {
        const trace::PassTimes& here = run.passes[stage][k];
        const trace::PassTimes& before = run.passes[stage - 1][k + 1];
        EXPECT_EQ(before.step, here.step + 1);
        // A pass waits for its rows first, then computes to its end.
        const int64_t begin =
            std::max(here.end_ns - here.times.compute_ns, before.end_ns - before.times.compute_ns);
        least = std::min(least, Seconds(std::min(here.end_ns, before.end_ns) - begin));
      }
    }
    return least;
  };
  const double wanted = kOverlapBound * Seconds(kChunk);
  const Traced run = BestRun(pipe, kChunks, -wanted, [&](const Traced& r) { return -least_overlap(r); });
  EXPECT_GE(least_overlap(run), wanted);
}

}  // namespace
}  // namespace sluice::pipe
