#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <random>

#include "comm/test_streams.h"
#include "comm/test_worlds.h"

// Transfers between thread ranks in the stream's form, over streams that are threads of the test.
namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

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

TEST_F(ThreadStreams, NoHostWaitsBetweenTheRowsAndTheStreamThatTakesThem) {
  auto world = World(2);
  for (const bool receiver_first : {true, false}) {
    std::vector<int> rows(1000, 0), taken(1000, 1), seen;
    TestStream sender, receiver;
    Held computing(sender);
    sender.Call([&] { std::fill(rows.begin(), rows.end(), 7); });
    std::unique_ptr<Transfer> send;
    if (!receiver_first) send = world[0]->SendOn(sender, 1, 1, Bytes(rows));
    const auto receive = world[1]->ReceiveOn(receiver, 0, 1, Bytes(taken));
    if (receiver_first) send = world[0]->SendOn(sender, 1, 1, Bytes(rows));
    ASSERT_TRUE(receive->WaitOn(receiver));  // nothing is computed yet
    receiver.Call([&] { seen = taken; });
    // A copy that did not wait for the rows would be over by then.
    std::this_thread::sleep_for(milliseconds(5));
    computing.LetGo();
    receiver.Finish();
    EXPECT_EQ(seen, rows);
    EXPECT_EQ(seen.front(), 7);
    receive->Wait();
    send->Wait();
  }
}

// What a stream waits for is on another already: a driver that has two streams in one queue cannot put the
// second behind a wait for its own work.
TEST_F(ThreadStreams, AHostWaitsUntilItsPeersPartIsOnAStream) {
  auto world = World(2);
  std::vector<int> rows(100, 7), taken(100, 1);
  TestStream sender, receiver;
  const auto receive = world[1]->ReceiveOn(receiver, 0, 1, Bytes(taken));
  std::atomic<bool> sent = false;
  bool sent_before = false;
  std::thread host([&] {
    receive->WaitOn(receiver);
    sent_before = sent;
  });
  std::this_thread::sleep_for(milliseconds(5));
  receiver.Finish();  // nothing is there that would wait
  sent = true;
  const auto send = world[0]->SendOn(sender, 1, 1, Bytes(rows));
  host.join();
  EXPECT_TRUE(sent_before);
  receiver.Finish();
  EXPECT_EQ(taken, rows);
}

TEST_F(ThreadStreams, RowsDoNotComeBeforeTheBufferIsFree) {
  auto world = World(2);
  for (const bool receiver_first : {true, false}) {
    std::vector<int> rows(100, 7), taken(100, 1), seen;
    TestStream sender, receiver;
    Held computing(receiver);
    receiver.Call([&] { seen = taken; });  // an earlier use of the buffer
    std::unique_ptr<Transfer> send;
    if (!receiver_first) send = world[0]->SendOn(sender, 1, 1, Bytes(rows));
    const auto receive = world[1]->ReceiveOn(receiver, 0, 1, Bytes(taken));
    if (receiver_first) send = world[0]->SendOn(sender, 1, 1, Bytes(rows));
    computing.LetGo();
    receive->Wait();
    send->Wait();
    receiver.Finish();
    EXPECT_EQ(seen, std::vector<int>(100, 1));
    EXPECT_EQ(taken, rows);
  }
}

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

// Whatever ends the host's wait, nothing is on its stream that waits.
TEST_F(ThreadStreams, AbortEndsTheWaitForASender) {
  auto world = World(2);
  std::vector<int> taken(100);
  TestStream receiver;
  const auto receive = world[1]->ReceiveOn(receiver, 0, 1, Bytes(taken));
  std::thread other([&] { world[0]->Abort("enough"); });
  EXPECT_EQ(LostSentence([&] { receive->WaitOn(receiver); }), "enough");
  other.join();
  receiver.Finish();
  EXPECT_EQ(LostSentence([&] { receive->Wait(); }), "enough");
  const auto later = world[1]->ReceiveOn(receiver, 0, 2, Bytes(taken));
  EXPECT_EQ(LostSentence([&] { later->WaitOn(receiver); }), "enough");
  EXPECT_EQ(LostSentence([&] { later->Wait(); }), "enough");
}

TEST_F(ThreadStreams, ASenderThatDoesNotComeIsNamed) {
  auto world = World(2, milliseconds(50));
  std::vector<int> taken(100);
  TestStream receiver;
  const auto receive = world[1]->ReceiveOn(receiver, 0, 1, Bytes(taken));
  EXPECT_THAT(LostSentence([&] { receive->WaitOn(receiver); }), HasSubstr("rank 0 did not send 400 bytes"));
  receiver.Finish();
}

TEST_F(ThreadStreams, ASenderThatEndsIsNamed) {
  auto world = World(2);
  std::vector<int> taken(100);
  TestStream receiver;
  const auto receive = world[1]->ReceiveOn(receiver, 0, 1, Bytes(taken));
  std::thread other([&] { world[0].reset(); });
  EXPECT_THAT(LostSentence([&] { receive->WaitOn(receiver); }), HasSubstr("rank 0 has ended"));
  other.join();
  receiver.Finish();
}

// The copy is on a stream and does not get done: the host names who computes for too long.
TEST_F(ThreadStreams, RowsThatAreNotComputedInTimeAreTheirSendersFault) {
  auto world = World(2, milliseconds(50));
  std::vector<int> rows(100, 7), taken(100);
  TestStream sender, receiver;
  Held computing(sender);
  const auto send = world[0]->SendOn(sender, 1, 1, Bytes(rows));
  const auto receive = world[1]->ReceiveOn(receiver, 0, 1, Bytes(taken));
  ASSERT_TRUE(receive->WaitOn(receiver));
  EXPECT_THAT(LostSentence([&] { receive->Wait(); }), HasSubstr("rank 0 did not send 400 bytes"));
  computing.LetGo();
  receiver.Finish();
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

// A pipeline of four ranks, whose hosts never wait but at the end, at random paces: every stage adds its own.
TEST_F(ThreadStreams, APipelineOfHostsThatRunAhead) {
  constexpr int kRanks = 4;
  constexpr int kSteps = 200;
  auto world = World(kRanks);
  std::vector<int> results;
  OnAllRanks(kRanks, [&](int rank) {
    std::minstd_rand random(static_cast<unsigned>(rank + 1));
    std::vector<std::vector<int>> buffers(kSteps, std::vector<int>(16));
    std::vector<std::unique_ptr<Transfer>> transfers;
    TestStream stream;
    for (int step = 0; step < kSteps; ++step) {
      std::vector<int>& rows = buffers[step];
      if (rank > 0) {
        transfers.push_back(
            world[rank]->ReceiveOn(stream, rank - 1, static_cast<uint64_t>(step), Bytes(rows)));
        transfers.back()->WaitOn(stream);
      }
      const bool slow = random() % 8 == 0;
      stream.Call([&rows, rank, step, slow] {
        if (slow) std::this_thread::sleep_for(std::chrono::microseconds(100));
        for (int& value : rows) value = value * 3 + rank + step;
      });
      if (rank + 1 < kRanks) {
        transfers.push_back(world[rank]->SendOn(stream, rank + 1, static_cast<uint64_t>(step), Bytes(rows)));
      } else {
        stream.Call([&rows, &results] { results.push_back(rows.back()); });
      }
    }
    for (const auto& transfer : transfers) transfer->Wait();
    stream.Finish();
  });
  ASSERT_EQ(results.size(), kSteps);
  for (int step = 0; step < kSteps; ++step) {
    int expected = 0;
    for (int rank = 0; rank < kRanks; ++rank) expected = expected * 3 + rank + step;
    EXPECT_EQ(results[step], expected) << "step " << step;
  }
}

}  // namespace
}  // namespace sluice::comm
