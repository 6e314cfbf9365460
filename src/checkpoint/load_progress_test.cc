#include "checkpoint/load_progress.h"

#include <gtest/gtest.h>

#include "base/clock.h"
#include "checkpoint/test_support.h"

namespace sluice::checkpoint {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSecond = 1'000'000'000;

TEST(LoadProgress, ShowsBytesInDecimalUnits) {
  EXPECT_EQ(ShownBytes(0), "0 B");
  EXPECT_EQ(ShownBytes(999), "999 B");
  EXPECT_EQ(ShownBytes(1000), "1.0 KB");
  EXPECT_EQ(ShownBytes(99'940'000), "99.9 MB");
  EXPECT_EQ(ShownBytes(123'456'789), "123 MB");
  EXPECT_EQ(ShownBytes(999'900'000), "1.0 GB");
  EXPECT_EQ(ShownBytes(641.3e9), "641 GB");
}

TEST(LoadProgress, LineHasBytesRateAndTimeLeft) {
  EXPECT_EQ(ProgressLine("Loading", 250'000'000, 1'000'000'000, 2.0, 0),
            "Loading  25%  250 MB of 1.0 GB  0.12 GB/s  6 s left");
  EXPECT_EQ(ProgressLine("Loading", 250'000'000, 1'000'000'000, 100.0, 8),
            "Loading [##......]  25%  250 MB of 1.0 GB  0.00 GB/s  5 min 00 s left");
  EXPECT_EQ(ProgressLine("Loading", 4'000'000'000, 4'000'000'000, 2.0, 4),
            "Loading [####] 100%  4.0 GB of 4.0 GB  2.00 GB/s  in 2 s");
  EXPECT_EQ(ProgressLine("Loading", 0, 1000, 0.0, 0), "Loading   0%  0 B of 1.0 KB");
  EXPECT_EQ(ProgressLine("Loading", 0, 0, 1.0, 0), "Loading 100%  0 B of 0 B");
}

// What is shown when 1000 bytes arrive in steps of 100 ms over 12 s.
std::string Shown12Seconds(bool terminal) {
  const TempDirectory directory;
  std::FILE* stream = std::fopen((directory / "out").c_str(), "w");
  {
    LoadProgressBar bar("Loading", stream, terminal);
    const int64_t start = NowNs();
    for (int64_t step = 1; step <= 120; ++step) bar.Report(step * 10, 1200, start + step * kSecond / 10);
    bar.Report(1200, 1200, start + 13 * kSecond);  // said once already
  }
  std::fclose(stream);
  return ReadBytes(directory / "out");
}

TEST(LoadProgress, PlainLinesComeEveryFiveSecondsAndAtTheEnd) {
  const std::string text = Shown12Seconds(false);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_THAT(text, HasSubstr("Loading 100%  1.2 KB of 1.2 KB"));
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(text.find('\033'), std::string::npos);
}

TEST(LoadProgress, ATerminalGetsOneLineRedrawn) {
  const std::string text = Shown12Seconds(true);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_GT(std::count(text.begin(), text.end(), '\r'), 50);
  EXPECT_LE(std::count(text.begin(), text.end(), '\r'), 121);
}

TEST(LoadProgressBar, LinesCanGoThroughALog) {
  std::vector<std::string> lines;
  LoadProgressBar bar("Loading", [&](const std::string& line) { lines.push_back(line); });
  const int64_t start = NowNs();
  bar.Report(1, 4, start + 1'000'000'000);
  bar.Report(2, 4, start + 6'000'000'000);
  bar.Report(4, 4, start + 6'100'000'000);
  bar.Report(4, 4, start + 6'200'000'000);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].substr(0, 12), "Loading  50%");
  EXPECT_EQ(lines[1].substr(0, 12), "Loading 100%");
}

}  // namespace
}  // namespace sluice::checkpoint
