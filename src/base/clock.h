#pragma once

#include <chrono>
#include <cstdint>

namespace sluice {

using Clock = std::chrono::steady_clock;
using Duration = std::chrono::nanoseconds;
using Deadline = Clock::time_point;

// Nanoseconds of the monotonic clock; the unit of every span and wait record.
inline int64_t NowNs() {
  return std::chrono::duration_cast<Duration>(Clock::now().time_since_epoch()).count();
}

// As people and JSON count.
inline double InSeconds(Duration time) { return std::chrono::duration<double>(time).count(); }
inline double SecondsOfNs(int64_t ns) { return static_cast<double>(ns) / 1e9; }

}  // namespace sluice
