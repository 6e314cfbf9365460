#include "trace/event_ring.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "trace/recorder.h"

namespace sluice::trace {
namespace {

// An event whose every field follows from its number.
Event Numbered(uint64_t number) {
  const auto n = static_cast<int64_t>(number);
  return {n,
          2 * n,
          3 * n,
          5 * n,
          static_cast<int32_t>(n),
          static_cast<int32_t>(n + 1),
          static_cast<int32_t>(n + 2),
          0,
          EventKind::kOp,
          0};
}

TEST(EventRing, KeepsTheLatestAndCountsWhatIsLost) {
  EventRing ring(10);
  EXPECT_EQ(ring.capacity(), 10U);
  EXPECT_TRUE(ring.Read().events.empty());
  for (uint64_t i = 0; i < 10; ++i) ring.Add(Numbered(i));
  EXPECT_EQ(ring.Read().first, 0U);
  EXPECT_EQ(ring.Read().events.size(), 10U);
  for (uint64_t i = 10; i < 37; ++i) ring.Add(Numbered(i));
  const RingContents all = ring.Read();
  EXPECT_EQ(all.first, 27U);
  ASSERT_EQ(all.events.size(), 10U);
  for (uint64_t i = 0; i < 10; ++i) EXPECT_EQ(all.events[i], Numbered(27 + i));
  EXPECT_EQ(ring.Read(30).first, 30U);
  EXPECT_EQ(ring.Read(30).events.size(), 7U);
  EXPECT_EQ(ring.Read(1000).first, 1000U);
  EXPECT_TRUE(ring.Read(1000).events.empty());
}

// What a reader gets while events are added is what was added, each in its place.
TEST(EventRing, IsReadWhileItIsWritten) {
  constexpr uint64_t kEvents = 4'000'000;
  constexpr uint64_t kCapacity = 16384;  // so many that some are overwritten while they are read
  EventRing ring(kCapacity);
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (uint64_t i = 0; i < kEvents; ++i) ring.Add(Numbered(i));
    done = true;
  });
  uint64_t looks = 0;
  uint64_t wrong = 0;
  while (!done || looks < 100) {
    const RingContents contents = ring.Read();
    ++looks;
    for (size_t i = 0; i < contents.events.size(); ++i) {
      if (contents.events[i] != Numbered(contents.first + i)) ++wrong;
    }
  }
  writer.join();
  EXPECT_EQ(wrong, 0U) << "of " << looks << " looks";
  EXPECT_EQ(ring.Read().first, kEvents - kCapacity);
}

TEST(EventRing, NamesAreNumberedOnce) {
  EventRing ring(4);
  const uint16_t linear = ring.NameId("Linear");
  EXPECT_EQ(ring.NameId("Linear"), linear);
  EXPECT_NE(ring.NameId("Linear2"), linear);
  EXPECT_EQ(ring.Names().at(linear), "Linear");
  const std::string longest(100, 'x');
  const uint16_t cut = ring.NameId(longest);
  EXPECT_EQ(ring.Names().at(cut), longest.substr(0, EventRing::kNameBytes));
  for (int i = 0; i < 1000; ++i) ring.NameId("n" + std::to_string(i));
  EXPECT_EQ(ring.Names().size(), EventRing::kNames);
  EXPECT_EQ(ring.NameId("no room for this one"), 0);
  EXPECT_EQ(ring.NameId("Linear"), linear);
  EXPECT_EQ(ring.Names().at(0), "other");
}

// Begins and ends of everything a pass is made of, with places, and what has not ended.
TEST(Recorder, EventsOfAPassNest) {
  Recorder recorder(3);
  { const ScopedWait start_up(&recorder, "connect", 1); }
  recorder.StartTimes();
  const uint16_t linear = recorder.NameId("Linear");
  {
    const ScopedSpan span(&recorder, SpanKind::kIdle);
    const ScopedWait wait(&recorder, "next step", -1, WaitKind::kWork);
  }
  {
    const ScopedPass pass(recorder, {7, 1, -1}, true);
    {
      const ScopedSpan span(&recorder, SpanKind::kHopWait);
      const ScopedWait wait(&recorder, "hop receive", 2, WaitKind::kHop, 640);
      const ScopedHop hop(&recorder, kRowsReceived, {7, 1}, 2, 640);
    }
    recorder.SetPlace({7, 1, 4});
    recorder.NoteOp(linear, NowNs(), 16);
    {
      const ScopedSpan span(&recorder, SpanKind::kCollective, "all-gather latents", 1000);
      const ScopedWait wait(&recorder, "all-gather latents", 5, WaitKind::kCollective, 500);
    }
  }
  const RankEvents all = recorder.Events();
  ASSERT_EQ(all.events.size(), 6U) << "start-up is forgotten";
  const auto is = [&](size_t i, EventKind kind, const char* name, int64_t step, int32_t layer, int32_t peer,
                      int64_t amount) {
    const Event& e = all.events[i];
    return e.kind == kind && all.names[e.name] == name && e.step == step && e.layer == layer &&
           e.peer == peer && e.amount == amount && e.open == 0 && e.end_ns >= e.begin_ns;
  };
  EXPECT_TRUE(is(0, EventKind::kIdle, "next step", -1, -1, -1, 0));
  EXPECT_TRUE(is(1, EventKind::kHop, "receive rows", 7, -1, 2, 640));
  EXPECT_TRUE(is(2, EventKind::kOp, "Linear", 7, 4, -1, 16));
  EXPECT_TRUE(is(3, EventKind::kWait, "all-gather latents", 7, 4, 5, 500));
  EXPECT_TRUE(is(4, EventKind::kCollective, "all-gather latents", 7, 4, -1, 1000));
  EXPECT_TRUE(is(5, EventKind::kPass, "pass", 7, -1, -1, 0));
  EXPECT_LE(all.events[4].begin_ns, all.events[3].begin_ns);
  EXPECT_LE(all.events[3].end_ns, all.events[4].end_ns);
  EXPECT_LE(all.events[5].begin_ns, all.events[1].begin_ns);
  EXPECT_GE(all.events[5].end_ns, all.events[4].end_ns);
  EXPECT_EQ(all.lost, 0U);
  EXPECT_EQ(recorder.Events(all.next).events.size(), 0U);
  EXPECT_EQ(recorder.Events(UINT64_MAX).next, all.next) << "where a profile begins";

  const ScopedPass pass(recorder, {8, 0, -1}, false);
  const ScopedSpan span(&recorder, SpanKind::kHopWait);
  const ScopedWait wait(&recorder, "hop receive", 2, WaitKind::kHop, 64);
  const RankEvents open = recorder.Events(all.next);
  ASSERT_EQ(open.events.size(), 2U);
  EXPECT_EQ(open.events[0].kind, EventKind::kHop);
  EXPECT_EQ(open.events[1].kind, EventKind::kPass);
  for (const Event& event : open.events) {
    EXPECT_EQ(event.open, 1);
    EXPECT_EQ(event.end_ns, open.now_ns);
  }
}

}  // namespace
}  // namespace sluice::trace
