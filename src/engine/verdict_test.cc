#include "engine/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kNow = 1000 * kSecond;
constexpr Duration kLimit = std::chrono::seconds(5);
constexpr parallel::Grid kGrid{2, 2};

// Four ranks that were heard of just now and made progress just now.
std::vector<RankState> Well() {
  std::vector<RankState> ranks(4);
  for (RankState& rank : ranks) {
    rank.ready = true;
    rank.last_heard_ns = rank.last_progress_ns = kNow;
    rank.heartbeat.place = {7, 0, 3};
  }
  return ranks;
}

// Rank `rank` waits for `peer` since `seconds`.
void MakeWait(std::vector<RankState>& ranks, int rank, int peer, int64_t seconds) {
  ranks[rank].heartbeat.wait = trace::Wait{{7, 0, 3}, "all-gather latents", peer, kNow - seconds * kSecond};
}

std::string VerdictOf(const std::vector<RankState>& ranks) {
  return FindVerdict(kGrid, ranks, kLimit, kNow).value_or("well");
}

TEST(Verdict, NobodyIsNamedWhileAllIsWell) {
  auto ranks = Well();
  EXPECT_EQ(VerdictOf(ranks), "well");
  MakeWait(ranks, 0, 1, 4);    // shorter than the limit
  MakeWait(ranks, 2, -1, 60);  // for the next step: idle
  EXPECT_EQ(VerdictOf(ranks), "well");
}

TEST(Verdict, ALongComputationThatMakesProgressIsNotNamed) {
  auto ranks = Well();
  MakeWait(ranks, 0, 1, 60);
  EXPECT_EQ(VerdictOf(ranks), "well");
  ranks[1].last_progress_ns = kNow - 6 * kSecond;
  EXPECT_THAT(VerdictOf(ranks),
              AllOf(StartsWith("rank 1 (stage 0, lane 1) did not arrive"), HasSubstr("at step 7, layer 3"),
                    HasSubstr("rank 0 (stage 0, lane 0) waits for it in all-gather latents since 60.0 s")));
}

TEST(Verdict, TheEndOfTheChainOfWaitsIsNamed) {
  auto ranks = Well();
  for (RankState& rank : ranks) rank.last_progress_ns = kNow - 30 * kSecond;
  MakeWait(ranks, 2, 0, 30);
  MakeWait(ranks, 3, 2, 29);
  MakeWait(ranks, 0, 1, 30);
  EXPECT_THAT(VerdictOf(ranks), StartsWith("rank 1 "));
  MakeWait(ranks, 1, -1, 30);  // the one that sits idle is the one that did not come
  EXPECT_THAT(VerdictOf(ranks), StartsWith("rank 1 "));
}

TEST(Verdict, ARankThatIsGoneIsSurerThanWhatTheOthersSay) {
  auto ranks = Well();
  ranks[0].failure = "rank 0 lost its data connection to rank 1";
  ranks[0].failure_is_a_lost_peer = true;
  ranks[0].gone = true;  // it ended after it had reported
  EXPECT_EQ(VerdictOf(ranks), "well") << "a witness is heard for two seconds before it is named";
  ranks[3].gone = true;
  ranks[3].gone_reason = "killed by signal 9";
  EXPECT_THAT(VerdictOf(ranks), StartsWith("rank 3 (stage 1, lane 1) is gone: killed by signal 9"));
  ranks[3] = Well()[3];
  ranks[0].last_heard_ns = kNow - 3 * kSecond;
  EXPECT_THAT(VerdictOf(ranks), StartsWith("rank 0 (stage 0, lane 0) failed: rank 0 lost"));
}

TEST(Verdict, AnErrorOfItsOwnAndASilentRankAreNamed) {
  auto ranks = Well();
  ranks[2].failure = "the index score of row 1 for position 2 is not a number";
  EXPECT_THAT(VerdictOf(ranks), StartsWith("rank 2 (stage 1, lane 0) failed: the index score"));
  ranks = Well();
  ranks[2].last_heard_ns = kNow - 6 * kSecond;
  EXPECT_THAT(VerdictOf(ranks), StartsWith("rank 2 (stage 1, lane 0) has not been heard of for 6.0 s"));
}

}  // namespace
}  // namespace sluice::engine
