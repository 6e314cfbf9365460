#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <random>
#include <thread>

#include "comm/test_copies.h"
#include "comm/test_streams.h"
#include "comm/test_worlds.h"

// What transfers in the stream's form promise, whoever carries them: over streams that are threads of the
// test.
namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

// kCopies: each rank copies into the memory of the next.
enum class StreamWorld { kThreads, kCopies };

class StreamTransfers : public testing::TestWithParam<StreamWorld> {
 protected:
  void Connect(int size, Duration timeout = kLong) {
    if (GetParam() == StreamWorld::kThreads) {
      world_ = MakeThreadWorld(size, timeout, memory_);
    } else {
      sharings_ = OnOneHost(size);
      world_ = MakeCopyChain(sharings_, memory_, timeout, false).world;
    }
  }
  // Buffers of `rank` for rows from the rank before it.
  std::vector<std::vector<int>> Offered(int rank, int count, size_t rows) {
    std::vector<std::vector<int>> buffers(static_cast<size_t>(count), std::vector<int>(rows, 1));
    for (auto& buffer : buffers) {
      if (rank > 0) world_[rank]->OfferBuffer(rank - 1, Bytes(buffer));
    }
    return buffers;
  }
  std::vector<std::vector<int>> Offered(int count) { return Offered(1, count, 100); }
  static std::span<std::byte> Bytes(std::vector<int>& values) {
    return std::as_writable_bytes(std::span(values));
  }
  void RunAhead(int steps, int buffers);

  StreamMemory memory_;
  Sharings sharings_;
  std::vector<std::unique_ptr<Communicator>> world_;
};

INSTANTIATE_TEST_SUITE_P(Worlds, StreamTransfers,
                         testing::Values(StreamWorld::kThreads, StreamWorld::kCopies), [](const auto& world) {
                           return world.param == StreamWorld::kThreads ? "Threads" : "Copies";
                         });

TEST_P(StreamTransfers, NoHostWaitsBetweenTheRowsAndTheStreamThatTakesThem) {
  Connect(2);
  auto taken = Offered(1, 1, 1000);
  for (const bool receiver_first : {true, false}) {
    std::vector<int> rows(1000, 0), seen;
    std::ranges::fill(taken[0], 1);
    TestStream sender, receiver;
    Held computing(sender);
    sender.Call([&] { std::ranges::fill(rows, 7); });
    std::unique_ptr<Transfer> send;
    if (!receiver_first) send = world_[0]->SendOn(sender, 1, 1, Bytes(rows));
    const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
    if (receiver_first) send = world_[0]->SendOn(sender, 1, 1, Bytes(rows));
    ASSERT_TRUE(receive->WaitOn(receiver));  // nothing is computed yet
    EXPECT_TRUE(receive->Begun());
    receiver.Call([&] { seen = taken[0]; });
    // A copy that did not wait for the rows would be over by then.
    std::this_thread::sleep_for(milliseconds(5));
    computing.LetGo();
    receiver.Finish();
    EXPECT_EQ(seen, std::vector<int>(1000, 7));
    receive->Wait();
    send->Wait();
  }
  EXPECT_EQ(world_[0]->bytes_sent(), 8000);
  EXPECT_EQ(world_[1]->bytes_received(), 8000);
}

// What a stream waits for is on another already: a driver that has two streams in one queue cannot put the
// second behind a wait for its own work.
TEST_P(StreamTransfers, AHostWaitsUntilItsPeersPartIsOnAStream) {
  Connect(2);
  auto taken = Offered(1);
  std::vector<int> rows(100, 7);
  TestStream sender, receiver;
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  EXPECT_FALSE(receive->Begun());
  std::atomic<bool> sent = false;
  bool sent_before = false;
  std::thread host([&] {
    receive->WaitOn(receiver);
    sent_before = sent;
  });
  std::this_thread::sleep_for(milliseconds(5));
  receiver.Finish();  // nothing is there that would wait
  sent = true;
  const auto send = world_[0]->SendOn(sender, 1, 1, Bytes(rows));
  host.join();
  EXPECT_TRUE(sent_before);
  receiver.Finish();
  EXPECT_EQ(taken[0], rows);
}

TEST_P(StreamTransfers, RowsDoNotComeBeforeTheBufferIsFree) {
  Connect(2);
  auto taken = Offered(1);
  for (const bool receiver_first : {true, false}) {
    std::vector<int> rows(100, 7), seen;
    std::ranges::fill(taken[0], 1);
    TestStream sender, receiver;
    Held computing(receiver);
    receiver.Call([&] { seen = taken[0]; });  // an earlier use of the buffer
    std::unique_ptr<Transfer> send;
    if (!receiver_first) send = world_[0]->SendOn(sender, 1, 1, Bytes(rows));
    const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
    if (receiver_first) send = world_[0]->SendOn(sender, 1, 1, Bytes(rows));
    receive->WaitOn(receiver);
    std::this_thread::sleep_for(milliseconds(5));
    computing.LetGo();
    receive->Wait();
    send->Wait();
    receiver.Finish();
    EXPECT_EQ(seen, std::vector<int>(100, 1));
    EXPECT_EQ(taken[0], rows);
  }
}

// Four ranks, each of which adds its own to what the one before it sends. Their hosts put all steps on their
// streams at their own pace: buffers are posted again while their rows are still on their way.
void StreamTransfers::RunAhead(int steps, int buffers) {
  constexpr int kRanks = 4;
  Connect(kRanks);
  std::vector<int> results;
  OnAllRanks(kRanks, [&](int rank) {
    std::minstd_rand random(static_cast<unsigned>(rank + 1));
    auto own = Offered(rank, buffers, 16);
    std::deque<std::unique_ptr<Transfer>> receives, sends;
    TestStream stream;
    for (int step = 0; step < steps; ++step) {
      std::vector<int>& rows = own[step % buffers];
      // What is sent from a buffer has left before rows come to it again: the sender's host sees to that.
      if (step >= buffers && rank + 1 < kRanks) {
        sends.front()->Wait();
        sends.pop_front();
      }
      if (rank > 0) {
        receives.push_back(
            world_[rank]->ReceiveOn(stream, rank - 1, static_cast<uint64_t>(step), Bytes(rows)));
        receives.back()->WaitOn(stream);
      } else {
        stream.Call([&rows] { std::ranges::fill(rows, 0); });
      }
      const bool slow = random() % 8 == 0;
      stream.Call([&rows, rank, step, slow] {
        if (slow) std::this_thread::sleep_for(std::chrono::microseconds(300));
        for (int& value : rows) value = value * 3 + rank + step;
      });
      if (rank + 1 < kRanks) {
        sends.push_back(world_[rank]->SendOn(stream, rank + 1, static_cast<uint64_t>(step), Bytes(rows)));
      } else {
        stream.Call([&rows, &results] { results.push_back(rows.back()); });
      }
    }
    for (const auto& transfer : receives) transfer->Wait();
    for (const auto& transfer : sends) transfer->Wait();
    stream.Finish();
  });
  ASSERT_EQ(results.size(), static_cast<size_t>(steps));
  for (int step = 0; step < steps; ++step) {
    int expected = 0;
    for (int rank = 0; rank < kRanks; ++rank) expected = expected * 3 + rank + step;
    EXPECT_EQ(results[step], expected) << "step " << step;
  }
}

TEST_P(StreamTransfers, APipelineOfHostsThatRunAhead) { RunAhead(400, 3); }

// They never wait for a buffer.
TEST_P(StreamTransfers, APipelineOfHostsThatRunAheadAsFarAsTheyLike) { RunAhead(200, 200); }

// One buffer, whose receive is posted again while the first rows are not computed: the second copy comes
// behind what the receiver does with the first.
TEST_P(StreamTransfers, ABufferIsPostedAgainBeforeItsRowsAreThere) {
  Connect(2);
  auto taken = Offered(2);
  std::vector<int> first(100, 0), second(100, 0), seen_first, seen_second;
  TestStream sender, receiver;
  Held computing(sender);
  sender.Call([&] { std::ranges::fill(first, 7), std::ranges::fill(second, 8); });
  const auto send_first = world_[0]->SendOn(sender, 1, 1, Bytes(first));
  const auto send_second = world_[0]->SendOn(sender, 1, 2, Bytes(second));
  const auto receive_first = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  receive_first->WaitOn(receiver);
  receiver.Call([&] { seen_first = taken[0]; });
  const auto receive_second = world_[1]->ReceiveOn(receiver, 0, 2, Bytes(taken[0]));
  receive_second->WaitOn(receiver);
  receiver.Call([&] { seen_second = taken[0]; });
  computing.LetGo();
  receive_second->Wait();
  receiver.Finish();
  EXPECT_EQ(seen_first, std::vector<int>(100, 7));
  EXPECT_EQ(seen_second, std::vector<int>(100, 8));
}

// Rows that are still computed hold up none that were sent before them.
TEST_P(StreamTransfers, RowsThatAreThereDoNotWaitForLaterOnes) {
  Connect(2);
  auto taken = Offered(2);
  std::vector<int> first(100, 7), second(100, 8);
  TestStream sender, receiver;
  const auto send_first = world_[0]->SendOn(sender, 1, 1, Bytes(first));
  Held computing(sender);
  const auto send_second = world_[0]->SendOn(sender, 1, 2, Bytes(second));
  const auto receive_first = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  const auto receive_second = world_[1]->ReceiveOn(receiver, 0, 2, Bytes(taken[1]));
  const Deadline limit = Clock::now() + std::chrono::seconds(10);
  while (!receive_second->Begun() && Clock::now() < limit) std::this_thread::yield();
  receive_first->WaitOn(receiver);
  std::atomic<bool> passed = false;
  receiver.Call([&] { passed = true; });
  while (!passed && Clock::now() < limit) std::this_thread::yield();
  EXPECT_TRUE(passed);
  EXPECT_EQ(taken[0], first);
  computing.LetGo();
  receive_second->Wait();
  receiver.Finish();
  EXPECT_EQ(taken[1], second);
}

TEST_P(StreamTransfers, AStreamThatWaitsLateWaitsForNothing) {
  Connect(2);
  auto taken = Offered(1);
  std::vector<int> rows(100, 7);
  TestStream sender, receiver;
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  world_[0]->SendOn(sender, 1, 1, Bytes(rows))->Wait();
  receive->Wait();
  // What carried the first may be another transfer's by now, whose rows do not come.
  const auto next = world_[1]->ReceiveOn(receiver, 0, 2, Bytes(taken[0]));
  EXPECT_TRUE(receive->WaitOn(receiver));
  receiver.Finish();
  EXPECT_EQ(taken[0], rows);
  world_[0]->SendOn(sender, 1, 2, Bytes(rows))->Wait();
  next->Wait();
}

// Whatever ends the host's wait, nothing is on its stream that waits.
TEST_P(StreamTransfers, AbortEndsEveryWait) {
  Connect(2);
  auto taken = Offered(1);
  TestStream receiver;
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  const auto of_hosts = world_[1]->Receive(0, 3, Bytes(taken[0]));
  std::thread other([&] { world_[0]->Abort("enough"); });
  EXPECT_EQ(LostSentence([&] { receive->WaitOn(receiver); }), "enough");
  other.join();
  receiver.Finish();
  EXPECT_EQ(LostSentence([&] { receive->Wait(); }), "enough");
  EXPECT_EQ(LostSentence([&] { of_hosts->Wait(); }), "enough");
  const auto send = world_[0]->SendOn(receiver, 1, 2, Bytes(taken[0]));
  EXPECT_EQ(LostSentence([&] { send->Wait(); }), "enough");
  EXPECT_EQ(LostSentence([&] { world_[1]->ReceiveOn(receiver, 0, 2, Bytes(taken[0]))->WaitOn(receiver); }),
            "enough");
  receiver.Finish();
}

TEST_P(StreamTransfers, ASenderThatDoesNotComeIsNamed) {
  Connect(2, milliseconds(100));
  auto taken = Offered(1);
  TestStream receiver;
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  EXPECT_THAT(LostSentence([&] { receive->WaitOn(receiver); }), HasSubstr("rank 0 did not send 400 bytes"));
  receiver.Finish();
}

TEST_P(StreamTransfers, AReceiverThatDoesNotComeIsNamed) {
  Connect(2, milliseconds(100));
  std::vector<int> rows(100);
  TestStream sender;
  const auto send = world_[0]->SendOn(sender, 1, 1, Bytes(rows));
  EXPECT_THAT(LostSentence([&] { send->Wait(); }), HasSubstr("rank 1 did not take 400 bytes"));
}

// The copy is on a stream and does not get done: the host names who computes for too long.
TEST_P(StreamTransfers, RowsThatAreNotComputedInTimeAreTheirSendersFault) {
  Connect(2, milliseconds(100));
  auto taken = Offered(1);
  std::vector<int> rows(100, 7);
  TestStream sender, receiver;
  Held computing(sender);
  const auto send = world_[0]->SendOn(sender, 1, 1, Bytes(rows));
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  ASSERT_TRUE(receive->WaitOn(receiver));
  EXPECT_THAT(LostSentence([&] { receive->Wait(); }), HasSubstr("rank 0 did not send 400 bytes"));
  computing.LetGo();
  receiver.Finish();
}

TEST_P(StreamTransfers, ASenderThatEndsIsNamed) {
  Connect(2);
  auto taken = Offered(1);
  TestStream receiver;
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  std::thread other([&] { world_[0].reset(); });
  EXPECT_THAT(LostSentence([&] { receive->WaitOn(receiver); }), HasSubstr("rank 0 has ended"));
  other.join();
  receiver.Finish();
}

}  // namespace
}  // namespace sluice::comm
