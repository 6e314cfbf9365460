#include "trace/clock_line.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>

namespace sluice::trace {

void ClockProbe::Add(int64_t sent_ns, int64_t heard_ns, int64_t rank_ns) {
  const int64_t half = (heard_ns - sent_ns) / 2;
  const ClockPoint point{rank_ns, rank_ns - (sent_ns + half), heard_ns - sent_ns - half};
  if (!best_.has_value() || point.error_ns < best_->error_ns) best_ = point;
}

int64_t ClockLine::Aligned(int64_t rank_ns) const {
  if (points_.empty()) return rank_ns;
  const ClockPoint& first = points_.front();
  const ClockPoint& last = points_.back();
  if (rank_ns <= first.at_ns || last.at_ns <= first.at_ns) return rank_ns - first.offset_ns;
  if (rank_ns >= last.at_ns) return rank_ns - last.offset_ns;
  const double part =
      static_cast<double>(rank_ns - first.at_ns) / static_cast<double>(last.at_ns - first.at_ns);
  return rank_ns - first.offset_ns -
         std::llround(part * static_cast<double>(last.offset_ns - first.offset_ns));
}

int64_t ClockLine::error_ns() const {
  int64_t most = 0;
  for (const ClockPoint& point : points_) most = std::max(most, point.error_ns);
  return most;
}

std::string ClockIdentity() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  std::array<char, 64> space{};  // "time:[4026531834]"
  if (boot.empty() || readlink("/proc/self/ns/time", space.data(), space.size() - 1) < 0) return "";
  return boot + " " + space.data();
}

}  // namespace sluice::trace
