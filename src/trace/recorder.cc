#include "trace/recorder.h"

#include <algorithm>
#include <utility>

namespace sluice::trace {

const char* NameOf(SpanKind kind) {
  switch (kind) {
    case SpanKind::kCompute:
      return "compute";
    case SpanKind::kCollective:
      return "collective";
    case SpanKind::kHopWait:
      return "hop wait";
    case SpanKind::kIdle:
      return "idle";
    case SpanKind::kSample:
      return "sample";
  }
  return "?";
}

Part PartOf(SpanKind kind) {
  switch (kind) {
    case SpanKind::kCompute:
    case SpanKind::kSample:
      return Part::kCompute;
    case SpanKind::kCollective:
      return Part::kWait;
    case SpanKind::kHopWait:
      return Part::kHop;
    case SpanKind::kIdle:
      break;
  }
  return Part::kIdle;
}

void Recorder::SetPlace(const Place& place) {
  std::lock_guard lock(mutex_);
  place_ = place;
  ++progress_;
}

Place Recorder::place() const {
  std::lock_guard lock(mutex_);
  return place_;
}

// The clock is read under the lock, so that readings never decrease for whoever reads the times.
void Recorder::BeginSpan(SpanKind kind) {
  std::lock_guard lock(mutex_);
  const int64_t now_ns = NowNs();
  open_.push_back({now_ns, now_ns, kind, place_.step, place_.pass});
  time_.Enter(PartOf(kind), now_ns);
  ++progress_;
}

void Recorder::EndSpan() {
  std::lock_guard lock(mutex_);
  const int64_t now_ns = NowNs();
  time_.Leave(now_ns);
  ring_[written_++ % ring_.size()] = {open_.back().begin_ns, now_ns, open_.back().kind, place_.step,
                                      place_.pass};
  open_.pop_back();
  ++progress_;
}

void Recorder::StartTimes() {
  std::lock_guard lock(mutex_);
  time_.Start(NowNs());
}

void Recorder::BeginPass(const Place& place, bool begins_period) {
  std::lock_guard lock(mutex_);
  place_ = place;
  time_.BeginPass(place.step, place.pass, begins_period, NowNs());
  ++progress_;
}

void Recorder::EndPass() {
  std::lock_guard lock(mutex_);
  place_.layer = -1;
  time_.EndPass(NowNs());
  ++progress_;
}

Times Recorder::times() const {
  std::lock_guard lock(mutex_);
  return time_.TimesAt(NowNs());
}

BusyPeriod Recorder::period() const {
  std::lock_guard lock(mutex_);
  return time_.PeriodAt(NowNs());
}

std::vector<PassTimes> Recorder::Passes() const {
  std::lock_guard lock(mutex_);
  return time_.Passes();
}

std::vector<Span> Recorder::Spans() const {
  std::lock_guard lock(mutex_);
  std::vector<Span> spans;
  const size_t count = std::min(written_, ring_.size());
  spans.reserve(count);
  for (size_t i = written_ - count; i < written_; ++i) spans.push_back(ring_[i % ring_.size()]);
  return spans;
}

void Recorder::BeginWait(Wait wait) {
  std::lock_guard lock(mutex_);
  wait.place = place_;
  wait.since_ns = NowNs();
  wait_ = std::move(wait);
  ++progress_;
}

void Recorder::EndWait() {
  std::lock_guard lock(mutex_);
  wait_.reset();
  ++progress_;
}

std::optional<Wait> Recorder::CurrentWait() const {
  std::lock_guard lock(mutex_);
  return wait_;
}

void Recorder::Count(uint64_t Counts::*which) {
  std::lock_guard lock(mutex_);
  ++(counts_.*which);
  ++progress_;
}

void Recorder::NoteSampled(int64_t step) {
  std::lock_guard lock(mutex_);
  counts_.sampled_step = step;
  ++progress_;
}

Counts Recorder::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

uint64_t Recorder::progress() const {
  std::lock_guard lock(mutex_);
  return progress_;
}

}  // namespace sluice::trace
