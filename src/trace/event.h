#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::trace {

// What a rank's compute thread was at. Events of one rank nest: of two, one lies within the other or they do
// not overlap. What a moment is counted as is decided by the innermost.
enum class EventKind : uint8_t {
  kPass,        // a step's visit; alone, it is what the host does between ops
  kOp,          // an op of ops::Ops
  kCollective,  // over the lanes; alone, it is the host's own part of it
  kWait,        // a peer's part of a collective, or something else of a peer
  kHop,         // rows or tokens of another stage, and their sending
  kIdle,        // no published work
};
inline constexpr int kEventKinds = 6;
const char* NameOf(EventKind kind);

// One event as the ring and a trace file hold it (docs/tracing.md); little-endian, without padding. Times are
// nanoseconds of the monotonic clock of the rank's host.
struct Event {
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
  int64_t step = -1;
  int64_t amount = 0;  // kOp: rows; else bytes, 0 where that is not known
  int32_t pass = 0;
  int32_t layer = -1;  // -1: outside the layers
  int32_t peer = -1;   // global rank; -1: none, or the controller
  uint16_t name = 0;   // EventRing's
  EventKind kind = EventKind::kPass;
  uint8_t open = 0;  // 1: had not ended when it was read, and end_ns is that moment
  bool operator==(const Event&) const = default;
};
inline constexpr size_t kEventBytes = 48;
static_assert(sizeof(Event) == kEventBytes);

}  // namespace sluice::trace
