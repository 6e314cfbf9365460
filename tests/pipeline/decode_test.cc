#include <fmt/format.h>
#include <gtest/gtest.h>

#include "delayed_channels.h"
#include "pipe_world.h"

// A sampled token goes from the last stage to the first directly: the controller learns it too, but the next
// row does not wait for that.
namespace sluice::pipe {
namespace {

using std::chrono::milliseconds;

// With 30 ms each way between controller and ranks, a decode step that waited for the controller would take a
// round trip of 60 ms. The scheduler publishes one token ahead, so two tokens share a round trip.
TEST(Decode, TokensDoNotTravelByTheControlPlane) {
  constexpr Duration kOneWay = milliseconds(30);
  constexpr int64_t kTokens = 16;
  constexpr double kBound = 0.7;  // of tokens x round trip; by the controller it would be at least 1
  const Pipe pipe{.stages = 2, .time = [](int64_t) { return milliseconds(1); }};
  engine::OfflineRunner runner(
      SettingsOf(pipe), kChunkRows, 8,
      std::make_unique<DelayedControl>(StartSleepingRanks(pipe), pipe.stages, kOneWay));
  engine::OfflineRequest request;
  request.prompt.assign(kChunkRows, 7);
  request.max_tokens = kTokens;
  const double round_trip = 2 * Seconds(kOneWay);
  double best = 1e9;
  for (int run = 0; run < 4 && best > kBound * kTokens * round_trip; ++run) {
    const engine::OfflineResult result = runner.Run({request}).front();
    ASSERT_EQ(result.tokens.size(), static_cast<size_t>(kTokens));
    EXPECT_GE(result.first_token_seconds, round_trip) << "the control plane was not delayed";
    best = std::min(best, result.seconds);
  }
  EXPECT_LT(best, kBound * kTokens * round_trip);
  fmt::print("{} tokens in {:.0f} ms; by the controller they would take {:.0f} ms\n", kTokens, 1e3 * best,
             1e3 * kTokens * round_trip);
}

}  // namespace
}  // namespace sluice::pipe
