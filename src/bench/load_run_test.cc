#include "bench/load_run.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <mutex>

namespace sluice::bench {
namespace {

Workload Numbered(int64_t requests) {
  Workload workload(static_cast<size_t>(requests));
  for (int64_t i = 0; i < requests; ++i) workload[i].prompt_tokens = i;
  return workload;
}

RequestRecord Answered(const LoadRequest& request) {
  RequestRecord record;
  record.prompt_tokens = request.prompt_tokens;
  return record;
}

// All slots are in use together, none twice at a time, and the records stand in the workload's order.
TEST(RunLoad, KeepsSoManyUnderWay) {
  constexpr int64_t kAtATime = 4;
  std::vector<std::atomic<int>> in_slot(kAtATime);
  std::atomic<int64_t> under_way{0};
  std::latch all_busy(kAtATime);
  const SendRequest send = [&](size_t slot, const LoadRequest& request) {
    EXPECT_EQ(in_slot.at(slot)++, 0);
    EXPECT_LE(++under_way, kAtATime);
    if (request.prompt_tokens < kAtATime) all_busy.arrive_and_wait();
    --under_way;
    --in_slot[slot];
    return Answered(request);
  };
  std::vector<size_t> told;
  const LoadOutcome outcome =
      RunLoad(Numbered(40), kAtATime, send, [&](size_t done) { told.push_back(done); });
  ASSERT_EQ(outcome.records.size(), 40U);
  for (int64_t i = 0; i < 40; ++i) {
    EXPECT_EQ(outcome.records[i].prompt_tokens, i);
    EXPECT_EQ(told[i], static_cast<size_t>(i) + 1);
  }
  EXPECT_TRUE(outcome.ended_early.empty());
  EXPECT_GT(outcome.seconds, 0.0);
}

TEST(RunLoad, WithoutALimitSendsAllAtOnce) {
  std::latch all(30);
  const LoadOutcome outcome = RunLoad(
      Numbered(30), 0,
      [&](size_t, const LoadRequest& request) {
        all.arrive_and_wait();
        return Answered(request);
      },
      [](size_t) {});
  EXPECT_EQ(outcome.records.size(), 30U);
}

TEST(RunLoad, SendsNothingBeforeItsTime) {
  Workload workload = Numbered(3);
  workload[1].at_seconds = 0.05;
  workload[2].at_seconds = 0.1;
  std::mutex mutex;
  std::vector<std::chrono::steady_clock::time_point> sent(3);
  const auto begin = std::chrono::steady_clock::now();
  RunLoad(
      workload, 0,
      [&](size_t, const LoadRequest& request) {
        std::lock_guard lock(mutex);
        sent[request.prompt_tokens] = std::chrono::steady_clock::now();
        return Answered(request);
      },
      [](size_t) {});
  EXPECT_GE(sent[1] - begin, std::chrono::milliseconds(50));
  EXPECT_GE(sent[2] - begin, std::chrono::milliseconds(100));
}

// The third request finds the server gone when two others are under way: they are kept, and the fourth, which
// is due later, is never sent.
TEST(RunLoad, EndsWhenTheServerIsGone) {
  Workload workload = Numbered(4);
  workload[3].at_seconds = 3600.0;
  std::latch all_sent(3);
  const LoadOutcome outcome = RunLoad(
      workload, 0,
      [&](size_t, const LoadRequest& request) {
        all_sent.arrive_and_wait();
        RequestRecord record = Answered(request);
        if (request.prompt_tokens == 1) record.error = "status 400";
        if (request.prompt_tokens == 2) {
          record.error = "connection refused";
          record.unreachable = true;
        }
        return record;
      },
      [](size_t) {});
  EXPECT_EQ(outcome.ended_early, "connection refused");
  ASSERT_EQ(outcome.records.size(), 3U);
  EXPECT_FALSE(outcome.records[1].ok());
}

}  // namespace
}  // namespace sluice::bench
