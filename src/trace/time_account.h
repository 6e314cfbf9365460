#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "trace/times.h"

namespace sluice::trace {

// Books every nanosecond of a rank's compute thread under exactly one Part. Parts nest: entering one suspends
// the one around it until Leave. The same clock reading ends one part and begins the next, so the totals add
// up to the time since Start exactly, and never decrease. Outside all parts and passes the rank is idle.
//
// Readings are monotonic nanoseconds that never decrease from call to call. Not thread-safe: Recorder has the
// lock.
class TimeAccount {
 public:
  // Keeps the records of the latest `passes` passes, in memory allocated here.
  TimeAccount(int64_t now_ns, size_t passes) : since_ns_(now_ns), ring_(passes) {}

  // Forgets what came before.
  void Start(int64_t now_ns);
  void Enter(Part part, int64_t now_ns);
  void Leave(int64_t now_ns);
  // A pass is compute but for the parts entered inside it. begins_period: step::Step::begins_busy_period, at
  // the step's first pass.
  void BeginPass(int64_t step, int32_t pass, bool begins_period, int64_t now_ns);
  void EndPass(int64_t now_ns);

  Times TimesAt(int64_t now_ns) const;
  // Up to now while a pass is under way, else up to the end of the last one.
  BusyPeriod PeriodAt(int64_t now_ns) const;
  // The records still in the ring, oldest first.
  std::vector<PassTimes> Passes() const;

 private:
  Part innermost() const { return open_.empty() ? Part::kIdle : open_.back(); }
  void Book(int64_t now_ns);

  Times totals_;  // up to since_ns_
  int64_t since_ns_;
  std::vector<Part> open_;  // innermost last
  std::vector<PassTimes> ring_;
  size_t written_ = 0;
  bool in_pass_ = false;
  PassTimes pass_;  // of the pass under way: step, pass and begin
  Times at_begin_;  // totals when it began
  int64_t idle_at_last_end_ = 0;
  BusyPeriod period_;  // up to the end of the last pass
  Times at_period_begin_;
};

}  // namespace sluice::trace
