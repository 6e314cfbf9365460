// Who may wait, for how long, and who need not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/small_engine.h"

namespace sluice::engine {
namespace {

class QueueTest : public SmallEngineTest {
 protected:
  // Runs until it is aborted.
  void Occupy() {
    occupant_ = engine_->Submit(RequestOf(300, 900), occupant_answer_.sink());
    occupant_answer_.AwaitTokens(1);
  }
  std::string Refused(const Request& request) {
    Answer answer;
    try {
      engine_->Submit(request, answer.sink());
    } catch (const QueueFull& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kOverloaded);
      retry_after_seconds_ = error.retry_after_seconds();
      return error.what();
    }
    ADD_FAILURE() << "taken";
    return "";
  }

  RequestId occupant_ = 0;
  Answer occupant_answer_;
  double retry_after_seconds_ = 0.0;
};

TEST_F(QueueTest, ARequestTooManyIsRefusedWithTheTimeItWouldWait) {
  engine_ = Start({.chunk_rows = 32, .max_running = 1, .max_queued = 2});
  Occupy();
  Answer waiting[2];
  RequestId ids[2];
  for (int i = 0; i < 2; ++i) ids[i] = engine_->Submit(RequestOf(100, 1), waiting[i].sink());
  EXPECT_THAT(Refused(RequestOf(10, 1)), testing::HasSubstr("2 requests wait already"));
  EXPECT_GT(retry_after_seconds_, 0.0) << "300 prompt tokens were measured";
  const EngineLoad load = engine_->Load();
  EXPECT_EQ(load.waiting, 2);
  EXPECT_EQ(load.pending_prefill_tokens, 200);
  EXPECT_DOUBLE_EQ(retry_after_seconds_, 200.0 / load.prefill_tokens_per_second);
  engine_->Abort(ids[0]);
  waiting[0].Last();
  Answer next;
  engine_->Submit(RequestOf(10, 1), next.sink());
  engine_->Abort(occupant_);
  EXPECT_EQ(next.Last().finish, FinishReason::kLength);
}

TEST_F(QueueTest, PromptTokensThatWaitHaveALimitOfTheirOwn) {
  engine_ = Start({.chunk_rows = 32, .max_running = 1, .max_queued_tokens = 150});
  Occupy();
  Answer waiting;
  engine_->Submit(RequestOf(200, 1), waiting.sink());  // one alone may be longer than the limit
  EXPECT_THAT(
      Refused(RequestOf(10, 1)),
      testing::HasSubstr("200 prompt tokens wait already, and with 10 more it would be over the 150"));
  engine_->Abort(occupant_);
  EXPECT_EQ(waiting.Last().finish, FinishReason::kLength);
}

TEST_F(QueueTest, WhatCanRunAtOnceIsNotRefusedForComingTogether) {
  engine_ = Start({.chunk_rows = 32, .max_running = 8, .max_queued = 1});
  Answer answers[8];
  for (Answer& answer : answers) engine_->Submit(RequestOf(20, 2), answer.sink());
  for (Answer& answer : answers) EXPECT_EQ(answer.Last().finish, FinishReason::kLength);
}

TEST_F(QueueTest, AProbeWaitsForNobody) {
  engine_ = Start({.chunk_rows = 32, .max_running = 1, .max_queued = 1});
  Occupy();
  Answer waiting;
  engine_->Submit(RequestOf(1100, 1), waiting.sink());
  Request request = RequestOf(1, 1);
  request.probe = true;
  Answer probe;
  engine_->Submit(request, probe.sink());
  EXPECT_EQ(probe.Last().finish, FinishReason::kLength);
  EXPECT_EQ(probe.tokens().size(), 1U);
  EXPECT_TRUE(waiting.progress().empty()) << "admitted beside the limit";
  // And between the chunks of a prompt that has the whole cache.
  engine_->Abort(occupant_);
  occupant_answer_.Last();
  waiting.AwaitProgress(32);
  Answer second;
  engine_->Submit(request, second.sink());
  EXPECT_EQ(second.Last().finish, FinishReason::kLength);
  EXPECT_LT(waiting.progress().back(), 1100);
  EXPECT_EQ(waiting.Last().finish, FinishReason::kLength);
}

TEST_F(QueueTest, ADeadlineEndsWhoRunsAndWhoWaits) {
  engine_ = Start({.chunk_rows = 32, .max_running = 1});
  Request request = RequestOf(300, 900);
  request.deadline_ns = NowNs() + 300'000'000;
  Answer running;
  engine_->Submit(request, running.sink());
  Answer waiting;
  engine_->Submit(request, waiting.sink());
  request.deadline_ns = 0;
  request.max_tokens = 2;
  Answer patient;
  engine_->Submit(request, patient.sink());
  EXPECT_EQ(waiting.Last().finish, FinishReason::kDeadline);
  EXPECT_EQ(running.Last().finish, FinishReason::kDeadline);
  EXPECT_EQ(patient.Last().finish, FinishReason::kLength);
}

TEST_F(QueueTest, ADeadlineThatCannotBeKeptIsRefusedAtOnce) {
  engine_ = Start({.chunk_rows = 32, .max_running = 1});
  Answer running;
  engine_->Submit(RequestOf(1100, 1), running.sink());
  running.AwaitProgress(64);
  Answer waiting;
  engine_->Submit(RequestOf(1100, 1), waiting.sink());
  Request request = RequestOf(10, 1);
  request.deadline_ns = NowNs() + 1'000'000;
  Answer late;
  try {
    engine_->Submit(request, late.sink());
    ADD_FAILURE() << "a deadline of a millisecond was taken";
  } catch (const DeadlineUnreachable& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("prompt tokens before this request take about"));
    EXPECT_GT(error.wait_seconds(), 0.001);
  }
  request.deadline_ns = NowNs() + 3'600'000'000'000;
  engine_->Submit(request, late.sink());
  EXPECT_EQ(late.Last().finish, FinishReason::kLength);
}

TEST_F(QueueTest, TheLargerPriorityIsAdmittedFirst) {
  engine_ = Start({.chunk_rows = 32, .max_running = 1, .by_priority = true});
  EXPECT_TRUE(engine_->info().priority_scheduling);
  Occupy();
  Answer low;
  Answer high;
  Request request = RequestOf(64, 4);
  engine_->Submit(request, low.sink());
  request.priority = 3;
  engine_->Submit(request, high.sink());
  engine_->Abort(occupant_);
  const int64_t high_started = high.Last().started_ns;
  EXPECT_LT(high_started, low.Last().started_ns);
}

TEST_F(QueueTest, ALostRankLeavesNoLoad) {
  comm::Fault death;
  death.step = 3;
  death.rank = 1;
  death.action = comm::FaultAction::kDie;
  engine_ = Start({.chunk_rows = 32, .max_running = 1}, {{death}});
  Answer running;
  Answer waiting;
  engine_->Submit(RequestOf(600, 5), running.sink());
  engine_->Submit(RequestOf(600, 5), waiting.sink());
  EXPECT_EQ(running.Last().finish, FinishReason::kError);
  EXPECT_EQ(waiting.Last().finish, FinishReason::kError);
  const auto deadline = Clock::now() + std::chrono::seconds(30);
  while (engine_->Load().running + engine_->Load().waiting > 0 && Clock::now() < deadline) continue;
  const EngineLoad load = engine_->Load();
  EXPECT_EQ(load.running, 0);
  EXPECT_EQ(load.waiting, 0);
  EXPECT_EQ(load.used_tokens, 0);
  EXPECT_EQ(load.pending_prefill_tokens, 0);
  EXPECT_FALSE(engine_->FlushCache());
  EXPECT_THROW(engine_->Submit(RequestOf(1, 1), running.sink()), Error);
}

}  // namespace
}  // namespace sluice::engine
