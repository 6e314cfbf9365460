#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trace/event.h"

namespace sluice::trace {

// What a ring held when it was read.
struct RingContents {
  uint64_t first = 0;         // number of events[0] among all ever added
  std::vector<Event> events;  // in the order in which they were added, which is that of their ends
};

// The latest events of one rank in memory taken once. One thread adds, any thread reads while it does:
// neither locks, allocates or waits. A full ring overwrites its oldest event; events are numbered from 0, so
// whoever reads knows how many are lost.
class EventRing {
 public:
  explicit EventRing(size_t capacity);

  // ---- the thread that adds ----

  void Add(const Event& event);
  // The number of a name, 0 to kNames - 1; the same for the same text. Names beyond the table, and what is
  // longer than kNameBytes of one, are cut off.
  uint16_t NameId(std::string_view name);

  // ---- any thread ----

  size_t capacity() const { return slots_.size() - 1; }
  // Events ever added.
  uint64_t written() const { return written_.load(std::memory_order_acquire); }
  // Those from number `from` on that are still there.
  RingContents Read(uint64_t from = 0) const;
  // Texts by their number; of every event that Read gave before.
  std::vector<std::string> Names() const;

  static constexpr size_t kNames = 256;
  static constexpr size_t kNameBytes = 40;

 private:
  // An event as words of its own, so that one that is overwritten while it is read is only a wrong value.
  using Slot = std::array<std::atomic<uint64_t>, kEventBytes / sizeof(uint64_t)>;

  std::vector<Slot> slots_;  // one more than the capacity: for the event that is being added
  std::atomic<uint64_t> written_{0};

  std::array<std::array<char, kNameBytes>, kNames> names_{};  // ends of texts are zeros
  std::atomic<uint16_t> name_count_{0};
  std::array<uint16_t, 2 * kNames> by_hash_{};  // number + 1; 0: free
};

}  // namespace sluice::trace
