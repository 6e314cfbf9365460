#include <gtest/gtest.h>

#include <algorithm>

#include "layout_world.h"

// While a step's rows travel to the next stage, the stage computes the next step: with 50 ms on the link,
// eight chunks are late by one delay, not by eight.
namespace sluice::layouts {
namespace {

constexpr Duration kDelay = std::chrono::milliseconds(50);
constexpr int64_t kChunkRows = 32;

// Best of three, so that another process on the machine does not decide.
double SecondsFor(int64_t chunks, Duration delay) {
  engine::JobSettings settings = SettingsOf({2, 1, parallel::SplitMode::kInterleave, kChunkRows});
  settings.link_delay = delay;
  engine::OfflineRunner runner(settings, kChunkRows, 8,
                               engine::StartThreadRanks(settings, TestCheckpoint(false), {}));
  engine::OfflineRequest request = PromptSets(TestCheckpoint(false)->config().vocab_size)[2].front();
  request.prompt.resize(chunks * kChunkRows);
  request.max_tokens = 1;
  double best = 1e9;
  for (int repeat = 0; repeat < 3; ++repeat) best = std::min(best, runner.Run({request}).front().seconds);
  return best;
}

TEST(Overlap, EightChunksPayTheLinkDelayOnce) {
  const double delay = std::chrono::duration<double>(kDelay).count();
  EXPECT_GT(SecondsFor(1, kDelay), delay) << "the delay was not applied";
  const double extra = SecondsFor(8, kDelay) - SecondsFor(8, Duration(0));
  EXPECT_LT(extra, 2.5 * delay) << "the delay was paid more than once";
}

}  // namespace
}  // namespace sluice::layouts
