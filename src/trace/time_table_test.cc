#include "trace/time_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "base/error.h"
#include "trace/dump_files.h"
#include "trace/pipeline_lanes.h"

namespace sluice::trace {
namespace {

// [0, 100): idle, then a pass of 80 in which 30 are an op, 20 a collective of which 15 are a wait, and 10
// rows.
std::vector<Event> OnePass() {
  return {EventOf(EventKind::kIdle, 5, 0, 20),        EventOf(EventKind::kPass, 0, 20, 100),
          EventOf(EventKind::kHop, 4, 22, 32, 0, 0),  EventOf(EventKind::kOp, 1, 40, 70),
          EventOf(EventKind::kCollective, 2, 70, 90), EventOf(EventKind::kWait, 2, 73, 88)};
}

TEST(TimeTable, EveryMomentBelongsToTheInnermost) {
  DumpFiles files;
  const TimeTable table =
      TableOf({files.Write(0, 2, 2, OnePass(), -10, 110), files.Write(1, 2, 2, {}, 0, 40)});
  ASSERT_EQ(table.stages.size(), 1U);
  const StageTimes& stage = table.stages[0];
  EXPECT_EQ(stage.lanes, 2);
  EXPECT_EQ(stage.total_ns, 160);
  EXPECT_EQ(stage.sum_ns(), 160);
  using Parts = std::map<std::string, int64_t>;
  EXPECT_EQ(stage.parts.at(Share::kCompute), (Parts{{"Linear", 30}, {"between ops", 20}}));
  EXPECT_EQ(stage.parts.at(Share::kCollective), (Parts{{"gather", 5}}));
  EXPECT_EQ(stage.parts.at(Share::kWait), (Parts{{"gather", 15}}));
  EXPECT_EQ(stage.parts.at(Share::kHop), (Parts{{"receive rows", 10}}));
  EXPECT_EQ(stage.parts.at(Share::kIdle), (Parts{{"next step", 20}}));
  EXPECT_EQ(stage.parts.at(Share::kOutside), (Parts{{"outside passes", 60}}));
}

// Random nests of events: the parts are the whole, to the nanosecond, and so are the hundredths shown.
TEST(TimeTable, AddsUp) {
  std::mt19937 random(3);
  for (int run = 0; run < 50; ++run) {
    std::vector<Event> events;
    int64_t at = 0;
    for (int pass = 0; pass < 20; ++pass) {
      at += static_cast<int64_t>(random() % 50);
      const size_t begins = events.size();
      events.push_back(EventOf(EventKind::kPass, 0, at, at));
      for (int op = 0; op < 9; ++op) {
        at += static_cast<int64_t>(random() % 7);
        const auto length = static_cast<int64_t>(random() % 1000);
        const auto kind = random() % 2 == 0 ? EventKind::kOp : EventKind::kCollective;
        events.push_back(EventOf(kind, static_cast<uint16_t>(1 + random() % 4), at, at + length));
        if (kind == EventKind::kCollective)
          events.push_back(EventOf(EventKind::kWait, 2, at + length / 3, at + length));
        at += length;
      }
      events[begins].end_ns = at;
    }
    DumpFiles files;
    const TimeTable table = TableOf({files.Write(0, 1, 1, events, 0, at + 5)});
    EXPECT_EQ(table.stages[0].sum_ns(), at + 5);
    const auto json = nlohmann::json::parse(JsonOf(table));
    EXPECT_EQ(json["stages"][0]["sum_ns"], json["stages"][0]["total_ns"]);
    // Lines with two blanks before them are shares, with four their parts.
    std::istringstream text(TextOf(table));
    int64_t shares = 0;
    int64_t sum = 0;
    for (std::string line; std::getline(text, line);) {
      const size_t percent = line.find('%');
      if (percent == std::string::npos || line[2] == ' ') continue;
      const int64_t hundredths = std::llround(std::stod(line.substr(percent - 8, 8)) * 100);
      (line.starts_with("  sum ") ? sum : shares) += hundredths;
    }
    EXPECT_EQ(shares, 10000);
    EXPECT_EQ(sum, 10000);
  }
}

TEST(TimeTable, EventsThatOverlapAreRefused) {
  DumpFiles files;
  const auto file =
      files.Write(0, 1, 1, {EventOf(EventKind::kOp, 1, 0, 10), EventOf(EventKind::kOp, 2, 5, 15)}, 0, 20);
  EXPECT_THROW(TableOf({file}), Error);
}

TEST(TimeTable, SaysWhatIsMissing) {
  DumpFiles files;
  const TimeTable table =
      TableOf({files.Write(0, 3, 1, OnePass(), 0, 100), files.Write(2, 3, 1, OnePass(), 0, 100)});
  EXPECT_EQ(table.missing, (std::vector<int32_t>{1}));
  EXPECT_EQ(table.stages.size(), 2U);
  EXPECT_NE(TextOf(table).find("missing: rank 1"), std::string::npos);
}

TEST(PipelineLanes, ShowWhatIsNotWaiting) {
  DumpFiles files;
  const auto lanes = PipelineLanes({files.Write(0, 1, 1, OnePass(), 0, 100, {{50, 1000, 0}})});
  ASSERT_EQ(lanes.size(), 1U);
  ASSERT_EQ(lanes[0].spans.size(), 1U);
  EXPECT_EQ(lanes[0].spans[0].begin_ns, 40 - 1000);
  EXPECT_EQ(lanes[0].spans[0].end_ns, 90 - 1000);
  EXPECT_EQ(XmlText("a<b & c"), "a&lt;b &amp; c");
}

}  // namespace
}  // namespace sluice::trace
