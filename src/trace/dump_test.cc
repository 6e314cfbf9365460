#include "trace/dump.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "trace/dump_files.h"

namespace sluice::trace {
namespace {

std::string SentenceOf(const std::function<void()>& what) {
  try {
    what();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::vector<Event> AllOf(const std::filesystem::path& file) {
  DumpReader reader(file);
  std::vector<Event> events;
  while (const auto event = reader.Next()) events.push_back(*event);
  return events;
}

// A ring has events by their end; a file has them by their begin, what encloses first.
TEST(Arrange, PutsWhatEnclosesFirst) {
  RankEvents recorded;
  const Event idle = EventOf(EventKind::kIdle, 5, 5, 100);
  const Event op = EventOf(EventKind::kOp, 1, 100, 110);
  const Event wait = EventOf(EventKind::kWait, 2, 110, 130);
  const Event gather = EventOf(EventKind::kCollective, 2, 110, 130);
  const Event pass = EventOf(EventKind::kPass, 0, 100, 140);
  recorded.events = {idle, op, wait, gather, pass};
  recorded.now_ns = 150;
  DumpHeader header;
  EXPECT_EQ(Arrange(recorded, -1, -1, header), (std::vector<Event>{idle, pass, op, gather, wait}));
  EXPECT_EQ(header.begin_ns, 5);
  EXPECT_EQ(header.end_ns, 150);
  EXPECT_EQ(header.events, 5U);
  EXPECT_EQ(header.lost, 0U);
  // From a moment on: what began before is cut, what ended before is left out.
  const std::vector<Event> later = Arrange(recorded, 120, -1, header);
  ASSERT_EQ(later.size(), 3U);
  EXPECT_EQ(later[0].kind, EventKind::kPass);
  EXPECT_EQ(later[1].kind, EventKind::kCollective);
  for (const Event& event : later) EXPECT_EQ(event.begin_ns, 120);
  EXPECT_EQ(header.begin_ns, 120);
}

// A pass whose first ops are lost is not taken for a host that did nothing: the file begins behind them.
TEST(Arrange, BeginsBehindWhatIsLost) {
  RankEvents recorded;
  recorded.events = {EventOf(EventKind::kOp, 1, 300, 310), EventOf(EventKind::kOp, 1, 320, 330),
                     EventOf(EventKind::kPass, 0, 100, 340)};
  recorded.lost = 17;
  recorded.now_ns = 350;
  DumpHeader header;
  const std::vector<Event> kept = Arrange(recorded, -1, -1, header);
  EXPECT_EQ(header.lost, 17U);
  EXPECT_EQ(header.begin_ns, 310);
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_EQ(kept[0].kind, EventKind::kPass);
  EXPECT_EQ(kept[0].begin_ns, 310);
}

TEST(Arrange, LeavesOutEarlierSteps) {
  RankEvents recorded;
  recorded.events = {EventOf(EventKind::kPass, 0, 100, 140, 3), EventOf(EventKind::kOp, 1, 160, 170, 4),
                     EventOf(EventKind::kPass, 0, 150, 180, 4)};
  recorded.now_ns = 200;
  DumpHeader header;
  EXPECT_EQ(Arrange(recorded, 120, 4, header).size(), 2U);
  EXPECT_EQ(header.begin_ns, 150);
}

TEST(Dump, IsReadAsItWasWritten) {
  DumpFiles files;
  std::vector<Event> events;
  for (int i = 0; i < 5000; ++i) events.push_back(EventOf(EventKind::kOp, 1, 10 * i, 10 * i + 7, i, 1));
  const auto file = files.Write(1, 2, 1, events, 0, 60'000, {{5, -6, 7}, {8, 9, 10}});
  EXPECT_EQ(AllOf(file), events);
  const DumpHeader header = DumpReader(file).header();
  EXPECT_EQ(header.rank, 1);
  EXPECT_EQ(header.stage, 1);
  EXPECT_EQ(header.host, "host \"one\"");
  EXPECT_EQ(header.clock, (std::vector<ClockPoint>{{5, -6, 7}, {8, 9, 10}}));
  EXPECT_EQ(header.names, DumpFiles::kNames);
}

TEST(Dump, WhatIsNotATraceIsSaidToBe) {
  DumpFiles files;
  const auto file =
      files.Write(0, 1, 1, {EventOf(EventKind::kOp, 1, 5, 6), EventOf(EventKind::kOp, 1, 7, 8)}, 0, 9);
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 20);
  EXPECT_NE(SentenceOf([&] { AllOf(file); }).find("ends after event 1 of 2"), std::string::npos);
  for (const Event& bad : {EventOf(EventKind::kOp, 99, 5, 6), EventOf(EventKind::kOp, 1, 6, 5),
                           EventOf(EventKind::kOp, 1, 5, 10), EventOf(static_cast<EventKind>(77), 1, 5, 6)}) {
    const auto path = files.Write(0, 1, 1, {bad}, 0, 9);
    EXPECT_NE(SentenceOf([&] { AllOf(path); }).find("event 0 cannot be"), std::string::npos);
  }
  std::ofstream(files.directory / "other.sltrace") << "{\"a\": 1}\n";
  EXPECT_NE(SentenceOf([&] { DumpReader(files.directory / "other.sltrace"); }).find("is not a trace file"),
            std::string::npos);
  EXPECT_NE(SentenceOf([&] { DumpReader(files.directory / "none"); }).find("cannot be read"),
            std::string::npos);
}

TEST(FindDumps, WantsTheFilesOfOneDump) {
  DumpFiles files;
  const std::string word = files.directory.string();
  EXPECT_NE(SentenceOf([&] { FindDumps({word}); }).find("has no trace files"), std::string::npos);
  const auto one = files.Write(1, 2, 1, {}, 0, 1);
  const auto zero = files.Write(0, 2, 1, {}, 0, 1);
  EXPECT_EQ(FindDumps({word}), (std::vector<std::filesystem::path>{zero, one}));
  std::filesystem::copy_file(one, files.directory / "again.sltrace");
  EXPECT_NE(SentenceOf([&] { FindDumps({word}); }).find("both of rank 1"), std::string::npos);
  std::filesystem::create_directory(files.directory / "inner");
  std::filesystem::rename(zero, files.directory / "inner" / zero.filename());
  std::filesystem::remove(files.directory / "again.sltrace");
  std::filesystem::remove(one);
  EXPECT_NE(SentenceOf([&] { FindDumps({word}); }).find("its dumps are inner"), std::string::npos);
}

}  // namespace
}  // namespace sluice::trace
