#include "pipeline/token_relay.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "comm/thread_world.h"

namespace sluice::pipeline {
namespace {

constexpr Duration kLimit = std::chrono::seconds(10);

// Step `id` of sequences 1, 2, 3; those in `sampled` sample, and await the step `awaits` if that is not -1.
step::Step StepOf(int64_t id, const std::vector<uint64_t>& sampled, int64_t awaits) {
  step::Step step;
  step.id = id;
  for (const uint64_t sequence : {1, 2, 3}) {
    step::StepSequence& part = step.sequences.emplace_back();
    part.sequence = sequence;
    part.sample = std::find(sampled.begin(), sampled.end(), sequence) != sampled.end();
    part.tokens = {part.sample && awaits >= 0 ? step::kAwaitedToken : static_cast<int32_t>(100 + sequence)};
    if (part.sample) part.awaits_step = awaits;
  }
  return step;
}

// Token 1000 * step + sequence for every sequence that samples.
step::StepResult ResultOf(const step::Step& step) {
  step::StepResult result{step.id, {}};
  for (const step::StepSequence& part : step.sequences) {
    step::SequenceResult& of = result.sequences.emplace_back();
    of.sequence = part.sequence;
    of.sampled = part.sample;
    of.token.token = static_cast<int32_t>(1000 * step.id + static_cast<int64_t>(part.sequence));
  }
  return result;
}

std::vector<int32_t> TokensOf(const step::Step& step) {
  std::vector<int32_t> tokens;
  for (const step::StepSequence& part : step.sequences) {
    EXPECT_EQ(part.awaits_step, -1);
    tokens.push_back(part.tokens.at(0));
  }
  return tokens;
}

class TokenRelayTest : public testing::TestWithParam<parallel::Grid> {};

// Ten steps, each awaiting the tokens of the one before, through grids of which the sampling lane is and is
// not itself on the first stage.
TEST_P(TokenRelayTest, EveryLaneOfTheFirstStageGetsTheTokensOfTheStepItNames) {
  const parallel::Grid grid = GetParam();
  auto world = comm::MakeThreadWorld(grid.world(), kLimit);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < grid.world(); ++rank) {
    ranks.emplace_back([&, rank] {
      TokenRelay relay(*world[rank], grid, rank, /*keep=*/3);
      for (int64_t id = 0; id < 10; ++id) {
        const step::Step step = StepOf(id, {1, 3}, id - 1);
        if (grid.StageOf(rank) == 0) {
          relay.Expect(step);
          const auto from = static_cast<int32_t>(1000 * (id - 1));
          EXPECT_EQ(TokensOf(relay.Resolve(step)), id == 0 ? (std::vector<int32_t>{101, 102, 103})
                                                           : (std::vector<int32_t>{from + 1, 102, from + 3}))
              << "step " << id << " rank " << rank;
        }
        if (rank == grid.Rank(grid.stages - 1, 0)) relay.Send(step, ResultOf(step));
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

INSTANTIATE_TEST_SUITE_P(Grids, TokenRelayTest,
                         testing::Values(parallel::Grid{1, 1}, parallel::Grid{1, 3}, parallel::Grid{2, 1},
                                         parallel::Grid{3, 2}));

TEST(TokenRelay, RefusesToAwaitWhatIsNotSampled) {
  auto world = comm::MakeThreadWorld(1, kLimit);
  TokenRelay relay(*world[0], {1, 1}, 0, 2);
  const step::Step first = StepOf(0, {2}, -1);
  relay.Expect(first);
  relay.Send(first, ResultOf(first));
  EXPECT_THROW(relay.Resolve(StepOf(1, {1}, 0)), Error) << "step 0 does not sample sequence 1";
  EXPECT_THROW(relay.Resolve(StepOf(9, {2}, 8)), Error) << "step 8 is unknown";
  EXPECT_EQ(TokensOf(relay.Resolve(StepOf(1, {2}, 0))), (std::vector<int32_t>{101, 2, 103}));
}

}  // namespace
}  // namespace sluice::pipeline
