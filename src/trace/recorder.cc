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

void Recorder::SetPlace(const Place& place) {
  std::lock_guard lock(mutex_);
  place_ = place;
  ++progress_;
}

Place Recorder::place() const {
  std::lock_guard lock(mutex_);
  return place_;
}

void Recorder::Add(SpanKind kind, int64_t begin_ns, int64_t end_ns) {
  std::lock_guard lock(mutex_);
  ring_[written_++ % ring_.size()] = {begin_ns, end_ns, kind, place_.step, place_.pass};
  ++progress_;
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
