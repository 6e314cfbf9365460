#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "trace/event_ring.h"
#include "trace/time_account.h"

namespace sluice::trace {

// Where a rank stands in its work; carried by every span and every wait.
struct Place {
  int64_t step = -1;
  int32_t pass = 0;
  int32_t layer = -1;  // -1: outside the layers (embedding, head, hop)
};

enum class SpanKind : uint8_t { kCompute, kCollective, kHopWait, kIdle, kSample };
const char* NameOf(SpanKind kind);
// Under which part of the rank's time a span is booked, but for the spans inside it.
Part PartOf(SpanKind kind);

// A stretch of one rank's time; nanoseconds of the monotonic clock (base/clock.h).
struct Span {
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
  SpanKind kind = SpanKind::kCompute;
  int64_t step = -1;
  int32_t pass = 0;
};

// What a wait ends with; the verdict (engine/verdict.h) reasons about it.
enum class WaitKind : uint8_t {
  kPeer,        // something from the peer
  kHop,         // rows from the peer: number Counts::taken + 1 of those it sends to this rank
  kCollective,  // the peer's part of collective number Counts::collectives
  kSend,        // the peer takes what was sent to it
  kToken,       // the tokens that step Wait::of_step sampled, from the peer
  kWork,        // the controller gives work: idle
  kOwn,         // something of this rank's own, such as a disk: nobody else can end it
};

// "Every wait has a name": what a rank waits for right now.
struct Wait {
  Place place;
  std::string op;     // "all-gather latents", "hop receive", "next step" ...
  int32_t peer = -1;  // global rank waited for; -1: none, or the controller
  int64_t since_ns = 0;
  WaitKind kind = WaitKind::kPeer;
  int64_t bytes = 0;     // that the peer owes or has to take; 0: not known
  int64_t of_step = -1;  // kToken: whose tokens are due
};

// How far a rank has come in what it shares with its peers. The ranks of a stage begin the same collectives
// in the same order, and a rank takes hops in the order in which its one upstream rank sends them: so counts
// of two ranks can be compared, and tell a peer that is late from one whose message was lost.
struct Counts {
  uint64_t collectives = 0;   // begun
  uint64_t sent = 0;          // hops handed to the data plane
  uint64_t taken = 0;         // hops arrived and taken
  int64_t sampled_step = -1;  // last step whose sampled tokens were handed to the data plane
};

// What a recorder keeps unless told otherwise; so many events are 3 MiB.
inline constexpr size_t kDefaultSpans = 65536;
inline constexpr size_t kDefaultPasses = 4096;
inline constexpr size_t kDefaultEvents = 65536;

// What a recorder's ring of events holds, for a trace file (trace/dump.h).
struct RankEvents {
  uint64_t next = 0;       // number of the event that will be added next; what is open has none
  uint64_t lost = 0;       // events that were asked for and are overwritten
  int64_t started_ns = 0;  // since when events are kept
  int64_t now_ns = 0;      // when this was read
  std::vector<std::string> names;
  std::vector<Event> events;  // by the time of their end, what is open last
};

// One rank's memory of where its time went and what it waits for: rings of events, of spans and of passes in
// fixed memory, the account of its time, and the wait in progress. Written by the rank's thread, read by
// anyone; thread-safe. Ops are noted without a lock (NoteOp); spans, waits and places, of which there are far
// fewer, with one that nobody holds for long.
class Recorder {
 public:
  explicit Recorder(int32_t rank, size_t spans = kDefaultSpans, size_t passes = kDefaultPasses,
                    size_t events = kDefaultEvents)
      : rank_(rank),
        ring_(spans),
        time_(NowNs(), passes),
        events_(events),
        pass_name_(events_.NameId("pass")),
        started_ns_(NowNs()) {}
  int32_t rank() const { return rank_; }

  void SetPlace(const Place& place);
  Place place() const;

  // Spans nest; End ends the one begun last, and gives it the place of that moment. `op` and `bytes`: of a
  // collective, which is an event too.
  void BeginSpan(SpanKind kind, std::string_view op = {}, int64_t bytes = 0);
  void EndSpan();
  // The spans still in the ring, oldest end first.
  std::vector<Span> Spans() const;

  // From here on the rank's time is counted (trace/time_account.h). Events before are forgotten.
  void StartTimes();
  void BeginPass(const Place& place, bool begins_period);
  void EndPass();
  // Now; BusyPeriod and passes as in TimeAccount.
  Times times() const;
  BusyPeriod period() const;
  std::vector<PassTimes> Passes() const;

  // Fills in the place and the time.
  void BeginWait(Wait wait);
  void EndWait();
  std::optional<Wait> CurrentWait() const;
  void Count(uint64_t Counts::*which);
  void NoteSampled(int64_t step);
  Counts counts() const;
  // Increases whenever the rank starts or ends anything: a rank whose count stands still makes no progress.
  uint64_t progress() const;

  // ---- events: the rank's thread ----

  uint16_t NameId(std::string_view name) { return events_.NameId(name); }
  // An op that began then and ends now, at the place of this moment. Neither locks nor allocates.
  void NoteOp(uint16_t name, int64_t begin_ns, int64_t rows) {
    events_.Add(EventHere(EventKind::kOp, name, begin_ns, rows, -1));
  }
  // A hop's event that began then and ends now; `of` is the pass whose rows move.
  void NoteHop(std::string_view name, int64_t begin_ns, const Place& of, int32_t peer, int64_t bytes);

  // ---- events: any thread ----

  // Those from number `from` on, and what has not ended: the pass, its collectives and the wait in progress.
  RankEvents Events(uint64_t from = 0) const;

 private:
  struct Open {
    Span span;
    uint16_t name = 0;
    int64_t bytes = 0;
  };
  // place_ changes on the rank's thread alone, which may therefore read it without the lock.
  Event EventHere(EventKind kind, uint16_t name, int64_t begin_ns, int64_t amount, int32_t peer) const {
    return {begin_ns, NowNs(), place_.step, amount, place_.pass, place_.layer, peer, name, kind};
  }
  // As what a wait is an event. With mutex_ held.
  EventKind KindOf(const Wait& wait) const;

  const int32_t rank_;
  mutable std::mutex mutex_;
  Place place_;
  std::vector<Span> ring_;
  size_t written_ = 0;
  std::vector<Open> open_;  // spans begun, innermost last
  TimeAccount time_;
  uint64_t progress_ = 0;
  std::optional<Wait> wait_;
  uint16_t wait_name_ = 0;
  int64_t pass_begin_ns_ = -1;  // of the pass under way; -1: there is none
  Counts counts_;
  EventRing events_;
  const uint16_t pass_name_;
  uint64_t first_event_ = 0;
  int64_t started_ns_;
};

// Records the span from construction to destruction. A null recorder records nothing.
class ScopedSpan {
 public:
  ScopedSpan(Recorder* recorder, SpanKind kind, std::string_view op = {}, int64_t bytes = 0)
      : recorder_(recorder) {
    if (recorder_ != nullptr) recorder_->BeginSpan(kind, op, bytes);
  }
  ~ScopedSpan() {
    if (recorder_ != nullptr) recorder_->EndSpan();
  }
  ScopedSpan(const ScopedSpan&) = delete;
  ScopedSpan& operator=(const ScopedSpan&) = delete;

 private:
  Recorder* recorder_;
};

// A pass from construction to destruction.
class ScopedPass {
 public:
  ScopedPass(Recorder& recorder, const Place& place, bool begins_period) : recorder_(recorder) {
    recorder_.BeginPass(place, begins_period);
  }
  ~ScopedPass() { recorder_.EndPass(); }
  ScopedPass(const ScopedPass&) = delete;
  ScopedPass& operator=(const ScopedPass&) = delete;

 private:
  Recorder& recorder_;
};

// Names the wait from construction to destruction. A null recorder names nothing.
class ScopedWait {
 public:
  ScopedWait(Recorder* recorder, std::string op, int32_t peer, WaitKind kind = WaitKind::kPeer,
             int64_t bytes = 0, int64_t of_step = -1)
      : recorder_(recorder) {
    if (recorder_ != nullptr) recorder_->BeginWait({{}, std::move(op), peer, 0, kind, bytes, of_step});
  }
  ~ScopedWait() {
    if (recorder_ != nullptr) recorder_->EndWait();
  }
  ScopedWait(const ScopedWait&) = delete;
  ScopedWait& operator=(const ScopedWait&) = delete;

 private:
  Recorder* recorder_;
};

// A hop's event from construction to destruction. A null recorder notes nothing.
class ScopedHop {
 public:
  ScopedHop(Recorder* recorder, std::string_view name, const Place& of, int32_t peer, int64_t bytes)
      : recorder_(recorder), name_(name), of_(of), peer_(peer), bytes_(bytes), begin_ns_(NowNs()) {}
  ~ScopedHop() {
    if (recorder_ != nullptr) recorder_->NoteHop(name_, begin_ns_, of_, peer_, bytes_);
  }
  ScopedHop(const ScopedHop&) = delete;
  ScopedHop& operator=(const ScopedHop&) = delete;

 private:
  Recorder* recorder_;
  std::string_view name_;  // a literal
  Place of_;
  int32_t peer_;
  int64_t bytes_;
  int64_t begin_ns_;
};

// The events of hops: rows handed to the data plane for the pass that will take them, and rows taken by a
// pass. Both name the taking pass, so that the two ends of a hop find each other.
inline constexpr std::string_view kRowsSent = "send rows";
inline constexpr std::string_view kRowsReceived = "receive rows";

}  // namespace sluice::trace
