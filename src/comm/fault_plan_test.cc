#include "comm/fault_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace sluice::comm {
namespace {

using testing::HasSubstr;

constexpr int kWorld = 6;

TEST(FaultPlan, ReadsBackWhatItPrints) {
  const FaultPlan plan = ParseFaultPlan(R"([
      {"step": 3, "rank": 1, "where": "hop", "do": "delay", "seconds": 0.25, "peer": 2, "times": 4},
      {"step": 3, "rank": 1, "do": "drop"},
      {"step": 9, "rank": 5, "where": "control", "do": "reorder"},
      {"step": 2, "rank": 0, "where": "hop", "do": "slow", "bytes_per_second": 1000, "latency_ms": 20},
      {"phase": "start-up", "rank": 2, "do": "stop"},
      {"step": -1, "rank": 2, "do": "die"},
      {"phase": "idle", "step": 4, "rank": 2, "do": "close"}])",
                                        "plan.json", kWorld);
  ASSERT_EQ(plan.faults.size(), 7U);
  EXPECT_EQ(plan.faults[0].delay, std::chrono::milliseconds(250));
  EXPECT_EQ(plan.faults[0].peer, 2);
  EXPECT_EQ(plan.faults[0].times, 4);
  EXPECT_EQ(plan.faults[1].where, FaultWhere::kAny);
  EXPECT_EQ(plan.faults[1].times, 1);
  EXPECT_EQ(plan.faults[2].delay, std::chrono::seconds(1)) << "how long a frame is held for the next at most";
  EXPECT_EQ(plan.faults[3].times, -1);
  EXPECT_EQ(plan.faults[3].latency, std::chrono::milliseconds(20));
  EXPECT_EQ(plan.faults[4].phase, FaultPhase::kStartUp);
  EXPECT_EQ(plan.faults[5].phase, FaultPhase::kStartUp);
  EXPECT_EQ(plan.faults[6].phase, FaultPhase::kIdle);
  EXPECT_EQ(ParseFaultPlan(Print(plan), "printed", kWorld), plan);
  EXPECT_TRUE(ParseFaultPlan("[]", "plan.json", kWorld).empty());
}

struct Bad {
  const char* json;
  const char* says;
};

TEST(FaultPlan, ABadPlanIsRefusedByEntryFieldAndValue) {
  const Bad table[] = {
      {"{", "plan.json is not JSON"},
      {"{}", "plan.json is no list of faults"},
      {"[3]", "plan.json, entry 1 is not an object"},
      {R"([{"step": 1, "rank": 0, "do": "drop"}, {"step": 1, "rank": 6, "do": "drop"}])",
       "plan.json, entry 2 has \"rank\": 6; use a whole number from 0 to 5"},
      {R"([{"step": 1, "do": "drop"}])", "entry 1 has no \"rank\""},
      {R"([{"step": 1, "rank": 0}])", "entry 1 has no \"do\""},
      {R"([{"step": 1, "rank": 0, "do": "explode"}])",
       "has \"do\": \"explode\"; use one of delay, drop, duplicate, reorder, corrupt, close, die, stop, slow"},
      {R"([{"step": 1, "rank": 0, "do": 7}])", "has \"do\": 7; use one of"},
      {R"([{"step": 1.5, "rank": 0, "do": "drop"}])", "has \"step\": 1.5; use a whole number"},
      {R"([{"step": 18446744073709551615, "rank": 0, "do": "drop"}])", "has \"step\": 18446744073709551615"},
      {R"([{"step": 1, "rank": 0, "do": "drop", "where": "moon"}])",
       "has \"where\": \"moon\"; use one of any, hop, collective, control"},
      {R"([{"step": 1, "rank": 0, "do": "drop", "phase": "night"}])", "has \"phase\": \"night\""},
      {R"([{"step": 1, "rank": 0, "do": "drop", "sceonds": 1}])", "has \"sceonds\": 1, a field that no fault has"},
      {R"([{"step": 1, "rank": 0, "do": "delay"}])", "\"delay\" and no \"seconds\""},
      {R"([{"step": 1, "rank": 0, "do": "delay", "seconds": 0}])", "has \"seconds\": 0; use a number above 0"},
      {R"([{"step": 1, "rank": 0, "do": "drop", "seconds": 1}])",
       "has \"seconds\": 1 with \"do\": \"drop\"; only delay or reorder has it"},
      {R"([{"step": 1, "rank": 0, "do": "die", "times": 2}])", "has \"times\": 2 with \"do\": \"die\""},
      {R"([{"step": 1, "rank": 0, "do": "stop", "peer": 1}])", "has \"peer\": 1 with \"do\": \"stop\""},
      {R"([{"step": 1, "rank": 0, "do": "drop", "peer": 0}])", "which is the rank itself"},
      {R"([{"step": 1, "rank": 0, "do": "drop", "where": "control", "peer": 1}])", "no peer but the controller"},
      {R"([{"step": 1, "rank": 0, "do": "slow"}])", "neither \"latency_ms\" nor \"bytes_per_second\""},
      {R"([{"step": 1, "rank": 0, "do": "drop", "latency_ms": 1}])", "only slow has it"},
      {R"([{"step": 1, "rank": 0, "do": "slow", "latency_ms": 1, "where": "control"}])", "between ranks"},
      {R"([{"step": 1, "rank": 0, "do": "corrupt", "where": "collective"}])", "carry no checksum"},
      {R"([{"rank": 0, "do": "drop", "phase": "step"}])", "no \"step\": say in which"},
      {R"([{"step": 2, "rank": 0, "do": "die", "phase": "start-up"}])", "at start-up there is none"},
      {R"([{"rank": 0, "do": "drop", "where": "hop"}])", "not there in its phase"},
      {R"([{"step": 1, "rank": 0, "do": "stop", "where": "control"}])", "ends or stops as a whole"},
  };
  for (const Bad& bad : table) {
    try {
      ParseFaultPlan(bad.json, "plan.json", kWorld);
      ADD_FAILURE() << "taken: " << bad.json;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_THAT(error.what(), HasSubstr(bad.says)) << bad.json;
    }
  }
  EXPECT_THROW(ReadFaultPlan("/nowhere/plan.json", kWorld), Error);
}

TEST(FaultPlan, ThreadsCannotBeStopped) {
  const auto plan = [](const char* action) {
    return ParseFaultPlan(fmt::format(R"([{{"step": 1, "rank": 0, "do": "{}"}}])", action), "p", kWorld);
  };
  EXPECT_NO_THROW(CheckRunsInThreads(plan("die")));
  EXPECT_THROW(CheckRunsInThreads(plan("stop")), Error);
}

}  // namespace
}  // namespace sluice::comm
