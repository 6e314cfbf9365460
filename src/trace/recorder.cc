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
void Recorder::BeginSpan(SpanKind kind, std::string_view op, int64_t bytes) {
  std::lock_guard lock(mutex_);
  const uint16_t name = kind == SpanKind::kCollective ? events_.NameId(op) : 0;
  const int64_t now_ns = NowNs();
  open_.push_back({{now_ns, now_ns, kind, place_.step, place_.pass}, name, bytes});
  time_.Enter(PartOf(kind), now_ns);
  ++progress_;
}

void Recorder::EndSpan() {
  std::lock_guard lock(mutex_);
  const int64_t now_ns = NowNs();
  time_.Leave(now_ns);
  const Open& ended = open_.back();
  ring_[written_++ % ring_.size()] = {ended.span.begin_ns, now_ns, ended.span.kind, place_.step, place_.pass};
  if (ended.span.kind == SpanKind::kCollective) {
    events_.Add(EventHere(EventKind::kCollective, ended.name, ended.span.begin_ns, ended.bytes, -1));
  }
  open_.pop_back();
  ++progress_;
}

void Recorder::StartTimes() {
  std::lock_guard lock(mutex_);
  started_ns_ = NowNs();
  first_event_ = events_.written();
  time_.Start(started_ns_);
}

void Recorder::BeginPass(const Place& place, bool begins_period) {
  std::lock_guard lock(mutex_);
  place_ = place;
  pass_begin_ns_ = NowNs();
  time_.BeginPass(place.step, place.pass, begins_period, pass_begin_ns_);
  ++progress_;
}

void Recorder::EndPass() {
  std::lock_guard lock(mutex_);
  place_.layer = -1;
  events_.Add(EventHere(EventKind::kPass, pass_name_, pass_begin_ns_, 0, -1));
  pass_begin_ns_ = -1;
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
  wait_name_ = events_.NameId(wait.op);
  wait.since_ns = NowNs();
  wait_ = std::move(wait);
  ++progress_;
}

// Rows that are waited for are an event of the hop, which knows whose they are (NoteHop).
void Recorder::EndWait() {
  std::lock_guard lock(mutex_);
  if (wait_.has_value() && wait_->kind != WaitKind::kHop) {
    events_.Add(EventHere(KindOf(*wait_), wait_name_, wait_->since_ns, wait_->bytes, wait_->peer));
  }
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

EventKind Recorder::KindOf(const Wait& wait) const {
  if (wait.kind == WaitKind::kWork) return EventKind::kIdle;
  if (wait.kind == WaitKind::kHop || wait.kind == WaitKind::kToken) return EventKind::kHop;
  const bool of_hop = !open_.empty() && open_.back().span.kind == SpanKind::kHopWait;
  return of_hop ? EventKind::kHop : EventKind::kWait;
}

void Recorder::NoteHop(std::string_view name, int64_t begin_ns, const Place& of, int32_t peer,
                       int64_t bytes) {
  events_.Add({begin_ns, NowNs(), of.step, bytes, of.pass, of.layer, peer, NameId(name), EventKind::kHop});
}

// What ends between the two readings is in neither; what began before the second and has not ended encloses
// all of the first that it began before.
RankEvents Recorder::Events(uint64_t from) const {
  RankEvents all;
  {
    std::lock_guard lock(mutex_);
    from = std::max(from, first_event_);
    all.started_ns = started_ns_;
  }
  RingContents kept = events_.Read(from);
  all.lost = kept.first - from;
  // Who asks for events that are not there yet learns which will be the next.
  all.next = kept.events.empty() ? std::min(kept.first, events_.written()) : kept.first + kept.events.size();
  all.events = std::move(kept.events);
  {
    std::lock_guard lock(mutex_);
    all.now_ns = NowNs();
    std::vector<Event> open;  // outermost first
    const auto add = [&](EventKind kind, uint16_t name, int64_t begin_ns, int64_t amount, int32_t peer) {
      open.push_back(
          {begin_ns, all.now_ns, place_.step, amount, place_.pass, place_.layer, peer, name, kind, 1});
    };
    if (pass_begin_ns_ >= 0) add(EventKind::kPass, pass_name_, pass_begin_ns_, 0, -1);
    for (const Open& each : open_) {
      if (each.span.kind == SpanKind::kCollective) {
        add(EventKind::kCollective, each.name, each.span.begin_ns, each.bytes, -1);
      }
    }
    if (wait_.has_value()) add(KindOf(*wait_), wait_name_, wait_->since_ns, wait_->bytes, wait_->peer);
    all.events.insert(all.events.end(), open.rbegin(), open.rend());
  }
  all.names = events_.Names();
  return all;
}

}  // namespace sluice::trace
