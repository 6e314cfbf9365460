#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>

#include "base/error.h"
#include "comm/test_copies.h"
#include "comm/test_streams.h"
#include "comm/thread_world.h"
#include "pipeline/hop.h"
#include "trace/recorder.h"

// A hop whose rows the stream waits for, over streams that are threads of the test.
namespace sluice::pipeline {
namespace {

constexpr int64_t kRows = 3;
constexpr int64_t kRowBytes = 8;

// What rows go by: a world of threads, or copies as between processes.
enum class Between { kThreads, kCopies };

// A pipeline of one lane, each stage with its stream, hop and recorder.
struct Pipeline {
  Pipeline(Between between, int stages, Duration timeout = std::chrono::seconds(20))
      : sharings(comm::OnOneHost(stages)), streams(stages) {
    world = between == Between::kCopies
                ? comm::MakeCopyChain(sharings, memory, timeout, /*required=*/true).world
                : comm::MakeThreadWorld(stages, timeout, memory);
    for (int stage = 0; stage < stages; ++stage) {
      recorders.push_back(std::make_unique<trace::Recorder>(stage));
      world[stage]->SetRecorder(recorders[stage].get());
      hops.push_back(std::make_unique<Hop>(*world[stage], parallel::Grid{stages, 1, 1, 1}, stage,
                                           std::vector<HopLayout>(stages, {{{kHidden, kRowBytes}}}), 4));
      hops[stage]->Reserve(kRows);
      hops[stage]->UseStream(streams[stage]);
    }
  }
  // What is on the streams uses the hops' buffers, also behind rows that nobody waits for any more.
  ~Pipeline() {
    for (comm::TestStream& stream : streams) {
      stream.SetBeforeFinish(nullptr);
      stream.Finish();
    }
  }
  // What a stage makes of a pass: one more than what comes.
  void Forward(int stage, const PassId& pass) {
    if (!hops[stage]->Expects(pass)) hops[stage]->Expect(pass, kRows);
    Buffer rows = hops[stage]->Take(pass);
    std::byte* at = rows.data();
    streams[stage].Call([at] { *at = std::byte(std::to_integer<int>(*at) + 1); });
    hops[stage]->Send(pass, kRows, std::move(rows));
  }
  void Begin(const PassId& pass, int value) {
    Buffer rows = hops[0]->NewBuffer(kRows);
    std::byte* at = rows.data();
    streams[0].Call([at, value] { *at = std::byte(value); });
    hops[0]->Send(pass, kRows, std::move(rows));
  }

  comm::StreamMemory memory;
  comm::Sharings sharings;
  std::vector<std::unique_ptr<comm::Communicator>> world;
  std::vector<comm::TestStream> streams;
  std::vector<std::unique_ptr<trace::Recorder>> recorders;
  std::vector<std::unique_ptr<Hop>> hops;
};

class HopOnAStream : public testing::TestWithParam<Between> {};

INSTANTIATE_TEST_SUITE_P(Worlds, HopOnAStream, testing::Values(Between::kThreads, Between::kCopies),
                         [](const auto& suite) {
                           return suite.param == Between::kThreads ? "Threads" : "Copies";
                         });

TEST_P(HopOnAStream, RowsComeThroughEveryStage) {
  Pipeline line(GetParam(), 3);
  for (int64_t step = 0; step < 20; ++step) {
    line.Begin({step, 0}, static_cast<int>(10 * step));
    line.Forward(1, {step, 0});
    line.hops[2]->Expect({step, 0}, kRows);
    Buffer rows = line.hops[2]->Take({step, 0});
    line.streams[2].Finish();
    EXPECT_EQ(std::to_integer<int>(*rows.data()), 10 * step + 1);
    line.hops[2]->Recycle(std::move(rows));
  }
  EXPECT_EQ(line.hops[2]->bytes_received(), 20 * kRows * kRowBytes);
}

// Between processes a host that has just posted a receive waits for words from the sender, and so, as long as
// it has not heard them, for earlier rows.
TEST(HopOnAStreamOfThreads, TheHostRunsAheadOfRowsThatAreBeingComputed) {
  Pipeline line(Between::kThreads, 3);
  comm::TestGate computing;
  line.streams[0].WaitFor(computing);
  for (int64_t step = 0; step < 3; ++step) line.Begin({step, 0}, static_cast<int>(10 * step));
  for (int64_t step = 0; step < 3; ++step) line.Forward(1, {step, 0});  // nothing has come
  for (int64_t step = 0; step < 3; ++step) line.hops[2]->Expect({step, 0}, kRows);
  EXPECT_EQ(line.recorders[1]->counts().taken, 0U);
  // What it has handed on is not on its way either, and nobody must be told so.
  EXPECT_EQ(line.recorders[1]->counts().sent, 0U);
  computing.Open();
  for (int64_t step = 0; step < 3; ++step) {
    const Buffer rows = line.hops[2]->Take({step, 0});
    line.streams[2].Finish();
    EXPECT_EQ(std::to_integer<int>(*rows.data()), 10 * step + 1);
    EXPECT_EQ(line.recorders[2]->counts().taken, static_cast<uint64_t>(step + 1));
  }
  line.streams[1].Finish();
  EXPECT_EQ(line.recorders[1]->counts().taken, 3U);
  EXPECT_EQ(line.recorders[1]->counts().sent, 3U);
  EXPECT_EQ(line.hops[1]->bytes_received(), 3 * kRows * kRowBytes);
}

// Until the sender's host has come that far, and until its rows are there: the same wait, by name.
TEST_P(HopOnAStream, AHostThatWaitsNamesWhoHasNotSent) {
  for (const bool sender_computes : {false, true}) {
    Pipeline line(GetParam(), 3);
    comm::TestGate computing;
    line.streams[0].WaitFor(computing);
    if (sender_computes) line.Begin({0, 0}, 1);
    std::thread host([&] {
      EXPECT_THROW(
          {
            line.Forward(1, {0, 0});
            line.streams[1].Finish();
          },
          Error);
    });
    const Deadline limit = Clock::now() + std::chrono::seconds(20);
    std::optional<trace::Wait> wait;  // as it was seen: from one wait to the next there is none
    while (!wait.has_value() && Clock::now() < limit) wait = line.recorders[1]->CurrentWait();
    line.world[2]->Abort("enough");
    host.join();
    computing.Open();
    ASSERT_TRUE(wait.has_value());
    EXPECT_EQ(wait->op, "hop receive");
    EXPECT_EQ(wait->peer, 0);
    EXPECT_EQ(wait->kind, trace::WaitKind::kHop);
  }
}

// Else the watchdog would take rows that are there for a message that was lost.
TEST_P(HopOnAStream, WhatWasTakenAndSentIsCountedBeforeTheHostIsSeenWaitingForMore) {
  Pipeline line(GetParam(), 3);
  line.hops[2]->Expect({0, 0}, kRows);
  line.Begin({0, 0}, 1);
  line.Forward(1, {0, 0});
  std::thread host([&] { EXPECT_THROW(line.Forward(1, {1, 0}), Error); });
  // In this order: a wait that is seen after the count is the next one.
  const auto waits_for_more = [&] {
    return line.recorders[1]->counts().taken == 1U && line.recorders[1]->CurrentWait().has_value();
  };
  const Deadline limit = Clock::now() + std::chrono::seconds(20);
  while (!waits_for_more() && Clock::now() < limit) std::this_thread::yield();
  EXPECT_EQ(line.recorders[1]->counts().taken, 1U);
  EXPECT_EQ(line.recorders[1]->counts().sent, 1U);
  line.world[2]->Abort("enough");
  host.join();
}

TEST_P(HopOnAStream, ARankThatGivesUpLeavesItsStreamFree) {
  Pipeline line(GetParam(), 2, std::chrono::milliseconds(50));
  line.hops[1]->Expect({0, 0}, kRows);
  line.hops[1]->Expect({1, 0}, kRows);
  EXPECT_THROW(line.hops[1]->Take({0, 0}), Error);
  line.hops[1]->Abandon();
  line.streams[1].Finish();
}

}  // namespace
}  // namespace sluice::pipeline
