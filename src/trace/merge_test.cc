#include "trace/merge.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "trace/dump_files.h"

namespace sluice::trace {
namespace {

constexpr int64_t kAhead = 7'000'000'000;  // of rank 1's clock

// Two stages of one lane. Rank 0 sends the rows of steps 0, 1, ... and rank 1, whose clock is far ahead,
// takes each 500 ns after they were sent.
std::vector<std::filesystem::path> Pipeline(DumpFiles& files, int steps, bool aligned) {
  std::vector<Event> sender;
  std::vector<Event> taker;
  int64_t at = 1'000'000;
  for (int step = 0; step < steps; ++step, at += 10'000) {
    sender.push_back(EventOf(EventKind::kPass, 0, at, at + 5'000, step));
    sender.push_back(EventOf(EventKind::kOp, 1, at, at + 4'000, step));
    sender.push_back(EventOf(EventKind::kHop, 3, at + 4'000, at + 4'100, step, 1));
    taker.push_back(EventOf(EventKind::kPass, 0, at + kAhead + 1'000, at + kAhead + 9'000, step));
    taker.push_back(EventOf(EventKind::kHop, 4, at + kAhead + 1'000, at + kAhead + 4'500, step, 0));
    taker.push_back(EventOf(EventKind::kOp, 1, at + kAhead + 4'500, at + kAhead + 8'000, step));
  }
  std::vector<ClockPoint> clock;
  if (aligned) clock.push_back({at + kAhead, kAhead, 40});
  return {files.Write(0, 2, 1, sender, 0, at), files.Write(1, 2, 1, taker, kAhead, at + kAhead, clock)};
}

nlohmann::json DocumentOf(const std::vector<std::filesystem::path>& files, Merged* merged = nullptr) {
  std::string text;
  const Merged result = MergeTraces(files, [&text](std::string_view piece) { text += piece; });
  if (merged != nullptr) *merged = result;
  return nlohmann::json::parse(text);
}

TEST(Merge, FollowsTheTraceEventFormat) {
  DumpFiles files;
  Merged merged;
  const auto document = DocumentOf(Pipeline(files, 100, true), &merged);
  EXPECT_EQ(merged.events, 600U);
  EXPECT_EQ(merged.hops, 100U);
  EXPECT_EQ(merged.clock_error_ns, 40);
  EXPECT_TRUE(merged.missing.empty());
  std::map<std::string, int> phases;
  double last = 0;
  for (const auto& event : document["traceEvents"]) {
    const std::string phase = event["ph"];
    ++phases[phase];
    EXPECT_TRUE(event["name"].is_string() && event["pid"].is_number_integer() &&
                event["tid"].is_number_integer());
    if (phase == "M") continue;
    EXPECT_GE(event["ts"].get<double>(), last) << "sorted";
    last = event["ts"];
    if (phase == "X") {
      EXPECT_GE(event["dur"].get<double>(), 0);
    }
  }
  EXPECT_EQ(phases, (std::map<std::string, int>{{"M", 8}, {"X", 600}, {"s", 100}, {"f", 100}}));
  EXPECT_EQ(document["traceEvents"][0]["args"]["name"], "stage 0");
  EXPECT_EQ(document["traceEvents"][2]["args"]["name"], "lane 0 (rank 0, host \"one\")");
  EXPECT_EQ(document["otherData"]["missing_ranks"], nlohmann::json::array());
}

// The time from the sending of a hop to its arrival, in microseconds, of each hop.
std::vector<double> FlightsOf(const nlohmann::json& document) {
  std::map<int64_t, double> sent;
  std::vector<double> flights;
  std::vector<std::pair<int64_t, double>> arrived;
  for (const auto& event : document["traceEvents"]) {
    if (event["ph"] == "s") sent[event["id"]] = event["ts"];
    if (event["ph"] == "f") arrived.emplace_back(event["id"], event["ts"]);
  }
  for (const auto& [id, ts] : arrived) flights.push_back(ts - sent.at(id));
  return flights;
}

TEST(Merge, RowsArriveAfterTheyWereSent) {
  DumpFiles files;
  const std::vector<double> flights = FlightsOf(DocumentOf(Pipeline(files, 20, true)));
  ASSERT_EQ(flights.size(), 20U);
  for (const double flight : flights) EXPECT_NEAR(flight, 0.5, 0.0021);
  // With the clocks as they are it would take them seven seconds.
  for (const double flight : FlightsOf(DocumentOf(Pipeline(files, 20, false)))) EXPECT_GT(flight, 1e6);
}

TEST(Merge, SaysWhichRankIsMissing) {
  DumpFiles files;
  auto both = Pipeline(files, 10, true);
  both.pop_back();
  Merged merged;
  const auto document = DocumentOf(both, &merged);
  EXPECT_EQ(merged.missing, (std::vector<int32_t>{1}));
  EXPECT_EQ(document["otherData"]["missing_ranks"], nlohmann::json::array({1}));
  EXPECT_EQ(merged.hops, 0U);
  for (const auto& event : document["traceEvents"]) EXPECT_NE(event["ph"], "s") << "an arrow to nowhere";
}

}  // namespace
}  // namespace sluice::trace
