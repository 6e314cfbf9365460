#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "comm/test_streams.h"
#include "comm/test_worlds.h"

// Transfers between thread ranks in the stream's form, where they are more than stream_transfers_test.cc asks
// of all: over streams that are threads of the test.
namespace sluice::comm {
namespace {

using std::chrono::milliseconds;

class ThreadStreams : public testing::Test {
 protected:
  std::vector<std::unique_ptr<Communicator>> World(int size, Duration timeout = kLong) {
    return MakeThreadWorld(size, timeout, memory_);
  }
  static std::span<std::byte> Bytes(std::vector<int>& values) {
    return std::as_writable_bytes(std::span(values));
  }

  StreamMemory memory_;
};

TEST_F(ThreadStreams, EitherFormMeetsEither) {
  auto world = World(2);
  for (const bool stream_sends : {true, false}) {
    std::vector<int> rows(100, 7), taken(100, 1);
    TestStream stream;
    const auto receive = stream_sends ? world[1]->Receive(0, 1, Bytes(taken))
                                      : world[1]->ReceiveOn(stream, 0, 1, Bytes(taken));
    const auto send =
        stream_sends ? world[0]->SendOn(stream, 1, 1, Bytes(rows)) : world[0]->Send(1, 1, Bytes(rows));
    EXPECT_EQ(receive->WaitOn(stream), !stream_sends);
    receive->Wait();
    send->Wait();
    EXPECT_EQ(taken, rows);
  }
}

TEST_F(ThreadStreams, WhatArrivedBeforeAFailureStays) {
  auto world = World(3, milliseconds(100));
  std::vector<int> rows(100, 7), taken(100), never(100);
  TestStream sender, receiver, lost;
  const auto receive = world[1]->ReceiveOn(receiver, 0, 1, Bytes(taken));
  const auto send = world[0]->SendOn(sender, 1, 1, Bytes(rows));
  send->Wait();
  const auto missing = world[2]->ReceiveOn(lost, 0, 1, Bytes(never));
  LostSentence([&] { missing->WaitOn(lost); });
  receive->Wait();
  EXPECT_EQ(taken, rows);
}

TEST_F(ThreadStreams, ReceivesThatHoldSmsHaveTheHostsFormAlone) {
  std::vector<int> rows(10);
  TestStream stream;
  auto holding = MakeThreadWorld(2, milliseconds(20), memory_, {1, [](int) { return nullptr; }});
  EXPECT_FALSE(holding[1]->ReceiveOn(stream, 0, 1, Bytes(rows))->WaitOn(stream));
}

// The host's form behind a mark: what stands behind the mark does not hold it up, what stands before it does.
TEST_F(ThreadStreams, ACollectiveBehindAMarkWaitsForNoMoreThanThat) {
  constexpr int kRanks = 3;
  auto world = World(kRanks);
  OnAllRanks(kRanks, [&](int rank) {
    std::vector<int> mine(100, 0), all(100 * kRanks, 1);
    TestStream stream;
    bool for_all = false;
    world[rank]->SetFence([&](const StreamMark* mark) {
      for_all = for_all || mark == nullptr;
      if (mark != nullptr) stream.FinishUpTo(*mark);
    });
    const std::vector<int64_t> bytes(kRanks, std::ssize(Bytes(mine)));
    stream.Call([&] {
      std::this_thread::sleep_for(milliseconds(5));
      std::fill(mine.begin(), mine.end(), rank + 10);
    });
    const auto made = stream.Record();
    {
      Held later(stream);  // for as long as the collective takes
      const Communicator::Behind behind(*world[rank], made.get());
      world[rank]->AllGather("gather", Bytes(mine), Bytes(all), bytes);
    }
    EXPECT_FALSE(for_all);
    std::vector<int> expected;
    for (int peer = 0; peer < kRanks; ++peer) expected.insert(expected.end(), 100, peer + 10);
    EXPECT_EQ(all, expected);
    world[rank]->AllGather("gather", Bytes(mine), Bytes(all), bytes);
    EXPECT_TRUE(for_all);
    world[rank]->SetFence(nullptr);
  });
}

}  // namespace
}  // namespace sluice::comm
