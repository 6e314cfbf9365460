#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <mutex>
#include <string>

#include "checkpoint/checkpoint.h"

namespace sluice::checkpoint {

// "12.3 GB": decimal units, as disks are sold.
std::string ShownBytes(double bytes);

// One line about bytes being read or written: done of total, rate since the start, time left.
// With `bar_width` > 0 a bar of that many characters comes first.
std::string ProgressLine(const std::string& label, int64_t done, int64_t total, double seconds,
                         int bar_width);

// Shows progress on `stream`: on a terminal a bar that is redrawn in place at most ten times a second,
// otherwise plain lines, the first after 5 s and then one every 5 s; one last line when everything is done,
// always. Thread-safe. The callback may outlive nothing: keep the LoadProgressBar until the work has ended.
class LoadProgressBar {
 public:
  LoadProgressBar(std::string label, std::FILE* stream);
  LoadProgressBar(std::string label, std::FILE* stream, bool terminal);
  // Plain lines through `write`, for a log that has a form of its own.
  LoadProgressBar(std::string label, std::function<void(const std::string&)> write);

  LoadProgress callback();
  // `now_ns` as NowNs() gives it; for tests.
  void Report(int64_t done, int64_t total, int64_t now_ns);

 private:
  const std::string label_;
  std::FILE* const stream_;  // null: write_
  const std::function<void(const std::string&)> write_;
  const bool terminal_;
  const int64_t start_ns_;
  std::mutex mutex_;
  int64_t shown_ns_;
  bool finished_ = false;
};

}  // namespace sluice::checkpoint
