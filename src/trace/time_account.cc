#include "trace/time_account.h"

#include <algorithm>

#include "base/error.h"

namespace sluice::trace {

void TimeAccount::Start(int64_t now_ns) {
  SLUICE_CHECK(open_.empty() && !in_pass_, "time is counted anew in the middle of a pass");
  totals_ = {};
  since_ns_ = now_ns;
  written_ = 0;
  idle_at_last_end_ = 0;
  period_ = {};
}

// What has passed since the last reading belongs to the innermost part.
void TimeAccount::Book(int64_t now_ns) {
  totals_ = TimesAt(now_ns);
  since_ns_ = now_ns;
}

void TimeAccount::Enter(Part part, int64_t now_ns) {
  Book(now_ns);
  open_.push_back(part);
}

void TimeAccount::Leave(int64_t now_ns) {
  SLUICE_CHECK(!open_.empty());
  Book(now_ns);
  open_.pop_back();
}

void TimeAccount::BeginPass(int64_t step, int32_t pass, bool begins_period, int64_t now_ns) {
  SLUICE_CHECK(!in_pass_, "step {} begins inside another", step);
  Enter(Part::kCompute, now_ns);
  in_pass_ = true;
  at_begin_ = totals_;
  pass_ = {step, pass, now_ns, now_ns, {}};
  if (begins_period || period_.step < 0) {
    period_ = {step, now_ns, now_ns, {}};
    at_period_begin_ = totals_;
  }
}

void TimeAccount::EndPass(int64_t now_ns) {
  SLUICE_CHECK(in_pass_);
  Leave(now_ns);
  in_pass_ = false;
  pass_.end_ns = now_ns;
  pass_.times = totals_ - at_begin_;
  pass_.times.idle_ns = at_begin_.idle_ns - idle_at_last_end_;
  idle_at_last_end_ = totals_.idle_ns;
  ring_[written_++ % ring_.size()] = pass_;
  period_.end_ns = now_ns;
  period_.times = totals_ - at_period_begin_;
}

Times TimeAccount::TimesAt(int64_t now_ns) const {
  Times times = totals_;
  times[innermost()] += now_ns - since_ns_;
  return times;
}

BusyPeriod TimeAccount::PeriodAt(int64_t now_ns) const {
  BusyPeriod period = period_;
  if (in_pass_) {
    period.end_ns = now_ns;
    period.times = TimesAt(now_ns) - at_period_begin_;
  }
  return period;
}

std::vector<PassTimes> TimeAccount::Passes() const {
  std::vector<PassTimes> passes;
  const size_t count = std::min(written_, ring_.size());
  passes.reserve(count);
  for (size_t i = written_ - count; i < written_; ++i) passes.push_back(ring_[i % ring_.size()]);
  return passes;
}

}  // namespace sluice::trace
