#include "engine/stall_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/test_times.h"

namespace sluice::engine {
namespace {

using testing::HasSubstr;

TEST(StallReport, HasARowForEveryRankAndTheVerdict) {
  JobRecord job;
  job.grid.stages = 4;
  job.ranks.resize(4);
  for (RankState& rank : job.ranks) {
    rank.ready = true;
    rank.last_heard_ns = kNow - kSecond / 10;
    rank.last_progress_ns = kNow - 2 * kSecond;
    rank.heartbeat.place = {7, 1, 3};
    rank.heartbeat.received_step = 9;
    rank.heartbeat.host = "node-a";
  }
  job.ranks[0].heartbeat.wait =
      trace::Wait{{7, 1, 3}, "hop send", 1, kNow - 2 * kSecond, trace::WaitKind::kSend, 512};
  job.ranks[1].heartbeat.wait = trace::Wait{{7, 1, -1}, "next step", -1, kNow, trace::WaitKind::kWork};
  job.ranks[3].gone = true;
  job.ranks[3].gone_reason = "killed by signal 9";
  job.due = {{7, kNow - 3 * kSecond}, {8, kNow - kSecond}};
  const StallReport report = MakeStallReport(job, {"", "rank 1 did not arrive", 1}, kNow);
  EXPECT_FALSE(report.ended);
  EXPECT_EQ(report.verdict, "rank 1 did not arrive");
  EXPECT_EQ(report.named_rank, 1);
  EXPECT_EQ(report.due_steps, (std::vector<int64_t>{7, 8}));
  ASSERT_EQ(report.ranks.size(), 4U);
  const char* activities[] = {"waits", "idle", "computes", "gone"};
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(report.ranks[rank].activity, activities[rank]);
  EXPECT_EQ(report.ranks[0].bytes, 512);
  EXPECT_DOUBLE_EQ(report.ranks[0].waited_seconds, 2.0);
  EXPECT_EQ(report.ranks[3].error, "killed by signal 9");
  EXPECT_THAT(report.text, HasSubstr("Stalled: rank 1 did not arrive\n2 steps are published"));
  EXPECT_THAT(report.text, HasSubstr("hop send from or to rank 1, 512 bytes, for 2.0 s"));
  EXPECT_EQ(std::count(report.text.begin(), report.text.end(), '\n'), 7);
  EXPECT_TRUE(MakeStallReport(job, {"it is over", "", 3}, kNow).ended);
}

}  // namespace
}  // namespace sluice::engine
