#include "comm/thread_world.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

#include "base/error.h"

namespace sluice::comm {
namespace {

// Counts what the receives of each of two ranks hold.
struct Holds {
  std::array<std::atomic<int>, 2> now = {};
  std::array<std::atomic<int>, 2> begun = {};

  ReceiveHold hold() {
    return {3, [this](int rank) {
              ++begun[rank];
              ++now[rank];
              return std::shared_ptr<void>(&now[rank],
                                           [](void* count) { --*static_cast<std::atomic<int>*>(count); });
            }};
  }
};

TEST(ThreadWorld, AReceiveHoldsFromItsPostingUntilItsDataIsThere) {
  Holds holds;
  auto world = MakeThreadWorld(2, std::chrono::seconds(10), HostMemory(), holds.hold());
  EXPECT_EQ(world[0]->sms_of_receives(), 3);
  std::array<std::byte, 8> out{};
  std::array<std::byte, 8> in{};
  std::array<std::byte, 8> other{};
  const auto first = world[1]->Receive(0, 1, in);
  const auto second = world[1]->Receive(0, 2, other);
  EXPECT_EQ(holds.now[1], 2);
  const auto sent = world[0]->Send(1, 1, out);
  EXPECT_EQ(holds.now[1], 1);  // before anybody waits
  const auto sent_too = world[0]->Send(1, 2, out);
  EXPECT_EQ(holds.now[1], 0);
  // Whose data is there already holds nothing, and neither do sends.
  const auto sent_ahead = world[0]->Send(1, 3, out);
  const auto third = world[1]->Receive(0, 3, in);
  EXPECT_EQ(holds.begun[1], 2);
  EXPECT_EQ(holds.begun[0], 0);
}

TEST(ThreadWorld, AReceiveThatIsGivenUpHoldsNoLonger) {
  Holds holds;
  auto world = MakeThreadWorld(2, std::chrono::seconds(10), HostMemory(), holds.hold());
  std::array<std::byte, 8> in{};
  const auto transfer = world[1]->Receive(0, 1, in);
  world[0]->Abort("enough");
  EXPECT_THROW(transfer->Wait(), Error);
  EXPECT_EQ(holds.now[1], 0);
}

TEST(ThreadWorld, CollectivesHoldNothing) {
  Holds holds;
  auto world = MakeThreadWorld(2, std::chrono::seconds(10), HostMemory(), holds.hold());
  std::thread other([&] { world[1]->Barrier("barrier"); });
  world[0]->Barrier("barrier");
  other.join();
  EXPECT_EQ(holds.begun[0] + holds.begun[1], 0);
}

}  // namespace
}  // namespace sluice::comm
