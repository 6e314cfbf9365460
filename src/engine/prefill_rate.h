#pragma once

#include <cstdint>
#include <deque>
#include <utility>

namespace sluice::engine {

// How many prompt rows a second the ranks have computed lately: over the last steps with prompt rows, rows
// divided by the time in which such a step was the next to be done. Times are NowNs().
class PrefillRate {
 public:
  void Published(int64_t prompt_rows, int64_t now_ns) { in_flight_.emplace_back(prompt_rows, now_ns); }
  // The oldest published step is done.
  void Completed(int64_t now_ns) {
    if (in_flight_.empty()) return;
    const auto [rows, published_ns] = in_flight_.front();
    in_flight_.pop_front();
    const int64_t began_ns = published_ns > completed_ns_ ? published_ns : completed_ns_;
    completed_ns_ = now_ns;
    if (rows == 0) return;
    // A step counts half after twenty others.
    constexpr double kKept = 0.966;
    rows_ = rows_ * kKept + static_cast<double>(rows);
    seconds_ = seconds_ * kKept + static_cast<double>(now_ns - began_ns) * 1e-9;
  }
  // 0: nothing is measured yet.
  double rows_per_second() const { return seconds_ > 0.0 ? rows_ / seconds_ : 0.0; }

 private:
  std::deque<std::pair<int64_t, int64_t>> in_flight_;  // prompt rows, when published
  int64_t completed_ns_ = 0;
  double rows_ = 0.0;
  double seconds_ = 0.0;
};

}  // namespace sluice::engine
