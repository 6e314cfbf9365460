#include "engine/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "engine/test_times.h"

namespace sluice::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using trace::WaitKind;

constexpr Duration kLimit = std::chrono::seconds(5);
constexpr int64_t kLong = 30;  // seconds, beyond the limit

// Two stages of two lanes: ranks 0 and 1, then 2 and 3. All heard of just now, all computing step 7, which is
// due since just now.
JobRecord Well() {
  JobRecord job;
  job.grid.stages = 2;
  job.grid.lanes = 2;
  job.ranks.resize(4);
  for (RankState& rank : job.ranks) {
    rank.ready = true;
    rank.last_heard_ns = rank.last_progress_ns = kNow;
    rank.heartbeat.place = {7, 0, 3};
    rank.heartbeat.received_step = 7;
    rank.heartbeat.counts = {100, 8, 8, 5};
    rank.heartbeat.host = "node-a";
  }
  job.due = {{7, kNow - kSecond}};
  job.last_result_ns = kNow - kSecond;
  return job;
}

void Waits(JobRecord& job, int rank, int peer, WaitKind kind, int64_t seconds,
           const char* op = "all-gather") {
  job.ranks[rank].heartbeat.wait =
      trace::Wait{job.ranks[rank].heartbeat.place, op, peer, kNow - seconds * kSecond, kind, 4096};
  job.ranks[rank].last_progress_ns = kNow - seconds * kSecond;
}
void Idles(JobRecord& job, int rank, int64_t seconds) {
  Waits(job, rank, -1, WaitKind::kWork, seconds, "next step");
}
void Computes(JobRecord& job, int rank, int64_t seconds_without_progress) {
  job.ranks[rank].last_progress_ns = kNow - seconds_without_progress * kSecond;
}

struct Case {
  const char* name;
  std::function<void(JobRecord&)> change;
  int named;         // -1: nobody
  const char* says;  // part of the sentence
};

constexpr int kNobody = -1;

const Case kCases[] = {
    {"AllWell", [](JobRecord&) {}, kNobody, ""},
    {"WaitsBelowTheLimit",
     [](JobRecord& job) {
       Waits(job, 0, 1, WaitKind::kCollective, 4);
       Idles(job, 1, kLong);
     },
     kNobody, ""},
    {"IdleWithNothingDue",
     [](JobRecord& job) {
       job.due.clear();
       for (int rank = 0; rank < 4; ++rank) Idles(job, rank, 60);
     },
     kNobody, ""},
    {"WaitingForARankThatComputesAndMakesProgress",
     [](JobRecord& job) { Waits(job, 0, 1, WaitKind::kCollective, 60); }, kNobody, ""},
    {"ComputingWithoutProgressWhileOthersWait",
     [](JobRecord& job) {
       Waits(job, 0, 1, WaitKind::kCollective, 60);
       Computes(job, 1, 6);
     },
     1, "did not arrive: it has made no progress for 6.0 s, at step 7, pass 0, layer 3"},
    {"ComputingWithoutProgressAndNobodyWaits", [](JobRecord& job) { Computes(job, 1, kLong); }, kNobody, ""},
    {"TheEndOfTheChain",
     [](JobRecord& job) {
       Waits(job, 2, 0, WaitKind::kHop, 30);
       Waits(job, 3, 2, WaitKind::kCollective, 29);
       Waits(job, 0, 1, WaitKind::kCollective, 30);
       Computes(job, 1, 30);
     },
     1,
     "rank 0 (stage 0, lane 0) on node-a waits for it in all-gather of 4096 bytes at step 7, pass 0, layer 3 "
     "since 30.0 s"},
    {"IdleAlthoughAnotherWaitsForIt",
     [](JobRecord& job) {
       Waits(job, 0, 1, WaitKind::kCollective, 30);
       Idles(job, 1, 29);
     },
     1, "did not arrive: it sits idle for 29.0 s, after step 7"},
    {"IdleBecauseAStepDidNotReachIt",
     [](JobRecord& job) {
       job.due = {{7, kNow - 6 * kSecond}};
       job.ranks[3].heartbeat.received_step = 6;
       job.ranks[3].heartbeat.place = {6, 0, -1};
       Idles(job, 3, 6);
       Waits(job, 2, 3, WaitKind::kCollective, 6);
     },
     3, "step 7, published 6.0 s ago, has not reached it; it sits idle for 6.0 s, after step 6"},
    {"AStepHasNotReachedItYet",
     [](JobRecord& job) {
       job.due = {{7, kNow - 3 * kSecond}};
       job.ranks[3].heartbeat.received_step = 6;
     },
     kNobody, ""},
    {"AHopWasLost",
     [](JobRecord& job) {
       Waits(job, 2, 0, WaitKind::kHop, 30, "hop receive");
       job.ranks[0].heartbeat.counts.sent = 9;
       Idles(job, 0, 29);
     },
     0, "did not arrive: it has done its part, but what it sent to rank 2 has not come; it sits idle"},
    {"AHopWasLostAndItsSenderGoesOn",
     [](JobRecord& job) {
       Waits(job, 2, 0, WaitKind::kHop, 30, "hop receive");
       job.ranks[0].heartbeat.counts.sent = 11;
     },
     0, "what it sent to rank 2 has not come"},
    {"AHopIsNotSentYet", [](JobRecord& job) { Waits(job, 2, 0, WaitKind::kHop, 30, "hop receive"); }, kNobody,
     ""},
    {"TheTokensOfAStepWereLost",
     [](JobRecord& job) {
       Waits(job, 0, 2, WaitKind::kToken, 30, "token receive");
       job.ranks[0].heartbeat.wait->of_step = 6;
       job.ranks[2].heartbeat.counts.sampled_step = 6;
       Waits(job, 2, 0, WaitKind::kHop, 29, "hop receive");
     },
     2, "what it sent to rank 0 has not come; it is in hop receive"},
    {"ARingThatWaitsForTheFirstStage",
     [](JobRecord& job) {
       // Nothing was lost: rank 1 computes, and everybody waits in the end for it.
       Waits(job, 0, 1, WaitKind::kCollective, 30);
       Waits(job, 2, 0, WaitKind::kHop, 30, "hop receive");
       Waits(job, 3, 2, WaitKind::kCollective, 30);
     },
     kNobody, ""},
    {"APartOfACollectiveWasLost",
     [](JobRecord& job) {
       Waits(job, 3, 2, WaitKind::kCollective, 30);
       Waits(job, 2, 3, WaitKind::kCollective, 29);
       job.ranks[2].heartbeat.counts.collectives = 101;
     },
     2, "what it sent to rank 3 has not come; it is in all-gather at step 7"},
    {"TheResultWasLost",
     [](JobRecord& job) {
       job.due = {{7, kNow - 8 * kSecond}};
       job.last_result_ns = kNow - 7 * kSecond;
       for (int rank = 0; rank < 4; ++rank) Idles(job, rank, 7);
     },
     2,
     "it has done its part, but the result has not come; it sits idle for 7.0 s, after step 7; the "
     "controller "
     "waits for the result of step 7 since 7.0 s"},
    {"TheLastStageComputes",
     [](JobRecord& job) {
       job.due = {{7, kNow - 60 * kSecond}};
     },
     kNobody, ""},
    {"TheControllersWaitBeginsWithTheLastResult",
     [](JobRecord& job) {
       job.due = {{7, kNow - 60 * kSecond}};
       job.last_result_ns = kNow - 2 * kSecond;
       for (int rank = 0; rank < 4; ++rank) Idles(job, rank, 2);
     },
     kNobody, ""},
    {"ARankThatDoesNotTakeWhatIsSentToIt",
     [](JobRecord& job) {
       Waits(job, 0, 2, WaitKind::kSend, 30, "hop send");
       Idles(job, 2, 30);
     },
     2, "rank 0 (stage 0, lane 0) on node-a waits for it in hop send"},
    {"SomethingOfItsOwn",
     [](JobRecord& job) {
       Waits(job, 0, 1, WaitKind::kCollective, 30);
       Waits(job, 1, -1, WaitKind::kOwn, 30, "read weights");
     },
     1, "did not arrive: it is in read weights for 30.0 s"},
    {"ACircle",
     [](JobRecord& job) {
       Waits(job, 0, 1, WaitKind::kPeer, 30);
       job.ranks[1].heartbeat.place = {7, 0, 2};
       Waits(job, 1, 0, WaitKind::kPeer, 30);
     },
     1, "has come least far of 2 ranks that wait for one another"},
    {"Silence",
     [](JobRecord& job) {
       job.ranks[2].last_heard_ns = kNow - 6 * kSecond;
       Idles(job, 0, kLong);
       Waits(job, 3, 2, WaitKind::kCollective, 5);
     },
     2,
     "has not been heard of for 6.0 s, its last word came at step 7, pass 0, layer 3; rank 3 (stage 1, lane "
     "1) on node-a waits "
     "for it"},
    {"WhatASilentRankWaitedForSaysNothing",
     [](JobRecord& job) {
       // Its wait was a second old when it was last heard of: the rank it waited for has long done its part.
       job.ranks[2].heartbeat.wait = trace::Wait{{7, 0, -1}, "hop receive", 0, kNow - 5 * kSecond - 1};
       job.ranks[2].heartbeat.wait->kind = WaitKind::kHop;
       job.ranks[2].last_heard_ns = kNow - 4 * kSecond;
       job.ranks[0].heartbeat.counts.sent = 9;
       Idles(job, 0, 5);
     },
     kNobody, ""},
    {"NotReadyAndStuck",
     [](JobRecord& job) {
       job.due.clear();
       job.started_ns = kNow - 10 * kSecond;
       job.ranks[1].ready = false;
       job.ranks[1].heartbeat.place = {};
       Waits(job, 1, -1, WaitKind::kOwn, 9, "fault plan");
     },
     1,
     "did not arrive: it is in fault plan for 9.0 s, before its first step; the controller waits for it to "
     "be "
     "ready since 10.0 s"},
    {"NotReadyAndLoading",
     [](JobRecord& job) {
       job.due.clear();
       job.started_ns = kNow - 100 * kSecond;
       job.ranks[1].ready = false;
       Computes(job, 1, 100);
     },
     kNobody, ""},
    {"Gone",
     [](JobRecord& job) {
       job.ranks[0].failure = "rank 0 lost its data connection to rank 3";
       job.ranks[0].failure_is_a_lost_peer = true;
       job.ranks[0].gone = true;  // it ended after it had reported
       job.ranks[3].gone = true;
       job.ranks[3].gone_reason = "killed by signal 9";
     },
     3, "is gone: killed by signal 9, its last word came at step 7, pass 0, layer 3"},
    {"AnErrorOfItsOwn",
     [](JobRecord& job) { job.ranks[2].failure = "the index score of row 1 is not a number"; }, 2,
     "failed: the index score of row 1 is not a number"},
    {"AnErrorThatBlamesAnother",
     [](JobRecord& job) {
       job.ranks[2].failure = "the 4096 bytes of step 7 from rank 0 are not those it sent";
       job.ranks[2].accused = 0;
     },
     0, "did not send what it had to, rank 2 (stage 1, lane 0) on node-a reports: the 4096 bytes"},
    {"AWitnessIsHeardForTwoSecondsFirst",
     [](JobRecord& job) {
       job.ranks[0].failure = "rank 0 lost its data connection to rank 1";
       job.ranks[0].failure_is_a_lost_peer = job.ranks[0].gone = true;
       job.ranks[0].last_heard_ns = kNow - kSecond;
     },
     kNobody, ""},
    {"AWitnessWithoutACulprit",
     [](JobRecord& job) {
       job.ranks[0].failure = "rank 0 lost its data connection to rank 1";
       job.ranks[0].failure_is_a_lost_peer = job.ranks[0].gone = true;
       job.ranks[0].last_heard_ns = kNow - 3 * kSecond;
     },
     0, "failed: rank 0 lost"},
};

class VerdictTest : public testing::TestWithParam<Case> {};

TEST_P(VerdictTest, NamesTheOneThatDidNotArrive) {
  JobRecord job = Well();
  GetParam().change(job);
  NotePassed(job, kNow - 6 * kSecond);
  const auto verdict = FindVerdict(job, {kLimit, true}, kNow);
  ASSERT_EQ(verdict.has_value() ? verdict->rank : kNobody, GetParam().named)
      << (verdict.has_value() ? verdict->sentence : "nobody is named");
  if (!verdict.has_value()) return;
  EXPECT_THAT(verdict->sentence, AllOf(testing::StartsWith(DescribeRank(job, GetParam().named) + " "),
                                       HasSubstr(GetParam().says)));
}

INSTANTIATE_TEST_SUITE_P(Rules, VerdictTest, testing::ValuesIn(kCases),
                         [](const auto& suite) { return suite.param.name; });

TEST(Verdict, TheSoftLimitNeverNamesARankThatComputes) {
  JobRecord job = Well();
  Waits(job, 0, 1, WaitKind::kCollective, 60);
  Computes(job, 1, 60);
  EXPECT_FALSE(FindVerdict(job, {kLimit, false}, kNow).has_value());
  EXPECT_TRUE(FindVerdict(job, {kLimit, true}, kNow).has_value());
}

// A hop that a long chunk was waited for is on its way for a moment; only what does not come for the limit is
// lost.
TEST(Verdict, WhatHasJustBeenSentIsNotLost) {
  JobRecord job = Well();
  const auto named_at = [&](int64_t now_ns) {
    for (RankState& rank : job.ranks) rank.last_heard_ns = rank.last_progress_ns = now_ns;
    job.due.front().published_ns = now_ns;
    NotePassed(job, now_ns);
    const auto verdict = FindVerdict(job, {kLimit, true}, now_ns);
    return verdict.has_value() ? verdict->rank : kNobody;
  };
  Waits(job, 2, 0, WaitKind::kHop, 30, "hop receive");
  EXPECT_EQ(named_at(kNow), kNobody);
  job.ranks[0].heartbeat.counts.sent = 9;
  EXPECT_EQ(named_at(kNow + kSecond), kNobody);
  EXPECT_EQ(named_at(kNow + 5 * kSecond), kNobody);
  EXPECT_EQ(named_at(kNow + 7 * kSecond), 0);
  // It came after all, and the next one is as late: what was noted of the last counts no more.
  job.ranks[2].heartbeat.counts.taken = 9;
  job.ranks[0].heartbeat.counts.sent = 10;
  job.ranks[2].heartbeat.wait->since_ns = kNow + 8 * kSecond;
  EXPECT_EQ(named_at(kNow + 14 * kSecond), kNobody);
}

// Rank 0 waits for the tokens of rank 2, that for a hop of rank 1, and that for one of rank 0 which is on its
// way: the circle is open there, and closed when it stays away.
TEST(Verdict, ACircleIsOpenWhereSomethingIsOnItsWay) {
  JobRecord job = Well();
  Waits(job, 0, 2, WaitKind::kToken, 30, "token receive");
  job.ranks[0].heartbeat.wait->of_step = 9;
  Waits(job, 2, 1, WaitKind::kHop, 30, "hop receive");
  Waits(job, 1, 0, WaitKind::kHop, 30, "hop receive");
  EXPECT_TRUE(FindVerdict(job, {kLimit, true}, kNow).has_value());
  job.ranks[0].heartbeat.counts.sent = 9;
  NotePassed(job, kNow - kSecond);
  EXPECT_FALSE(FindVerdict(job, {kLimit, true}, kNow).has_value());
  job.ranks[1].peer_passed_ns = kNow - 6 * kSecond;
  EXPECT_EQ(FindVerdict(job, {kLimit, true}, kNow)->rank, 0);
}

TEST(Verdict, TheSentenceNamesRankStageLaneHostAndPlace) {
  JobRecord job = Well();
  job.ranks[3].heartbeat.host = "node-b";
  Waits(job, 2, 3, WaitKind::kCollective, 6, "all-gather latents");
  Idles(job, 3, 6);
  EXPECT_EQ(FindVerdict(job, {kLimit, false}, kNow)->sentence,
            "rank 3 (stage 1, lane 1) on node-b did not arrive: it sits idle for 6.0 s, after step 7; rank 2 "
            "(stage 1, lane 0) on node-a waits for it in all-gather latents of 4096 bytes at step 7, pass 0, "
            "layer 3 since 6.0 s");
}

}  // namespace
}  // namespace sluice::engine
