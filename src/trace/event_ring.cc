#include "trace/event_ring.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace sluice::trace {
namespace {

using Words = std::array<uint64_t, kEventBytes / sizeof(uint64_t)>;

uint64_t HashOf(std::string_view text) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

const char* NameOf(EventKind kind) {
  switch (kind) {
    case EventKind::kPass:
      return "pass";
    case EventKind::kOp:
      return "op";
    case EventKind::kCollective:
      return "collective";
    case EventKind::kWait:
      return "wait";
    case EventKind::kHop:
      return "hop";
    case EventKind::kIdle:
      return "idle";
  }
  return "?";
}

EventRing::EventRing(size_t capacity) : slots_(capacity + 1) {
  SLUICE_CHECK(capacity > 0, "a ring without events");
  names_[0] = {'o', 't', 'h', 'e', 'r'};
  name_count_ = 1;
}

// A reader that finds a word of event n knows, by release and acquire, that written_ has reached n: it then
// drops the event in whose place the word lies, n - capacity - 1, and those before.
void EventRing::Add(const Event& event) {
  const auto words = std::bit_cast<Words>(event);
  const uint64_t number = written_.load(std::memory_order_relaxed);
  Slot& slot = slots_[number % slots_.size()];
  for (size_t i = 0; i < words.size(); ++i) slot[i].store(words[i], std::memory_order_release);
  written_.store(number + 1, std::memory_order_release);
}

RingContents EventRing::Read(uint64_t from) const {
  const uint64_t end = written();
  RingContents contents;
  contents.first = std::max(from, end > capacity() ? end - capacity() : 0);
  if (contents.first >= end) {
    contents.first = std::max(from, end);
    return contents;
  }
  contents.events.resize(end - contents.first);
  for (uint64_t number = contents.first; number < end; ++number) {
    Words words;
    const Slot& slot = slots_[number % slots_.size()];
    for (size_t i = 0; i < words.size(); ++i) words[i] = slot[i].load(std::memory_order_acquire);
    contents.events[number - contents.first] = std::bit_cast<Event>(words);
  }
  // What was added meanwhile, and what is being added now, may lie in the place of the oldest.
  const uint64_t now = written();
  const uint64_t kept = now > capacity() ? now - capacity() : 0;
  if (kept > contents.first) {
    const uint64_t overwritten = std::min<uint64_t>(kept - contents.first, contents.events.size());
    contents.events.erase(contents.events.begin(),
                          contents.events.begin() + static_cast<int64_t>(overwritten));
    contents.first += overwritten;
  }
  return contents;
}

uint16_t EventRing::NameId(std::string_view name) {
  name = name.substr(0, kNameBytes);
  const uint64_t hash = HashOf(name);
  for (size_t i = 0; i < by_hash_.size(); ++i) {
    uint16_t& entry = by_hash_[(hash + i) % by_hash_.size()];
    if (entry > 0) {
      const auto& known = names_[entry - 1];
      const size_t length = std::find(known.begin(), known.end(), '\0') - known.begin();
      if (std::string_view(known.data(), length) == name) return static_cast<uint16_t>(entry - 1);
      continue;
    }
    const uint16_t number = name_count_.load(std::memory_order_relaxed);
    if (number == kNames) return 0;
    std::copy(name.begin(), name.end(), names_[number].begin());
    entry = static_cast<uint16_t>(number + 1);
    name_count_.store(entry, std::memory_order_release);
    return number;
  }
  return 0;
}

std::vector<std::string> EventRing::Names() const {
  std::vector<std::string> names;
  const uint16_t count = name_count_.load(std::memory_order_acquire);
  for (uint16_t i = 0; i < count; ++i) {
    const auto& name = names_[i];
    names.emplace_back(name.begin(), std::find(name.begin(), name.end(), '\0'));
  }
  return names;
}

}  // namespace sluice::trace
