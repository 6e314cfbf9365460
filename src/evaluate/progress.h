#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "base/clock.h"

namespace sluice::evaluate {

// One line of progress: name, share, bar, count, time gone and left, rate since the start. `seconds` above 0.
std::string ProgressLine(const std::string& name, int64_t done, int64_t total, double seconds);

// Shows such a line on standard error: in place and often on a terminal, a line every ten seconds elsewhere.
class Progress {
 public:
  Progress(std::string name, int64_t total);

  void Show(int64_t done);
  // The last state, with the end of the line.
  void Finish(int64_t done);
  double seconds() const;

 private:
  const std::string name_;
  const int64_t total_;
  const bool terminal_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point next_ = begin_;
};

}  // namespace sluice::evaluate
