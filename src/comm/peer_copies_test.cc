#include "comm/peer_copies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <random>

#include "comm/test_streams.h"
#include "comm/test_worlds.h"

// Copies into other ranks' memory, over streams that are threads of the test and names that are addresses.
namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PeerCopiesTest : public testing::Test {
 protected:
  // Ranks in a row: each copies to the next.
  void Connect(int size, Duration timeout = kLong, bool required = false) {
    while (static_cast<int>(sharing_.size()) < size) {
      sharing_.push_back(std::make_unique<TestSharing>("here", std::to_string(sharing_.size())));
    }
    world_ = MakeThreadWorld(size, timeout, memory_);
    edges_.resize(static_cast<size_t>(size));
    refused_.resize(static_cast<size_t>(size));
    LocalStore store;
    OnAllRanks(size, [&](int rank) {
      std::vector<int> to, from;
      if (rank + 1 < size) to.push_back(rank + 1);
      if (rank > 0) from.push_back(rank - 1);
      try {
        world_[rank] = MakePeerCopies(std::move(world_[rank]), *sharing_[rank], to, from, store, kLoopback,
                                      required, timeout, &edges_[rank]);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kUsage);
        refused_[rank] = error.what();
      }
    });
  }
  // Buffers of rank 1 for rows from rank 0.
  std::vector<std::vector<int>> Offered(int count, size_t rows = 100) {
    std::vector<std::vector<int>> buffers(static_cast<size_t>(count), std::vector<int>(rows, 1));
    for (auto& buffer : buffers) world_[1]->OfferBuffer(0, Bytes(buffer));
    return buffers;
  }
  static std::span<std::byte> Bytes(std::vector<int>& values) {
    return std::as_writable_bytes(std::span(values));
  }

  StreamMemory memory_;
  std::vector<std::unique_ptr<TestSharing>> sharing_;
  std::vector<std::unique_ptr<Communicator>> world_;
  std::vector<CopyEdges> edges_;
  std::vector<std::string> refused_;
};

TEST_F(PeerCopiesTest, NoHostWaitsBetweenTheRowsAndTheStreamThatTakesThem) {
  Connect(2);
  auto taken = Offered(1, 1000);
  EXPECT_THAT(edges_[0].to, ElementsAre(1));
  EXPECT_THAT(edges_[1].from, ElementsAre(0));
  EXPECT_THAT(edges_[0].not_to, IsEmpty());
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

TEST_F(PeerCopiesTest, AHostWaitsUntilTheCopyIsOnAStream) {
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

TEST_F(PeerCopiesTest, RowsDoNotComeBeforeTheBufferIsFree) {
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

// Both hosts put all steps on their streams at their own pace: buffers are posted again while their rows are
// still on their way, and each of the few lanes is used hundreds of times.
TEST_F(PeerCopiesTest, APipelineOfHostsThatRunAhead) {
  constexpr int kRanks = 4;
  constexpr int kBuffers = 3;
  constexpr int kSteps = 400;
  Connect(kRanks);
  std::vector<int> results;
  OnAllRanks(kRanks, [&](int rank) {
    std::minstd_rand random(static_cast<unsigned>(rank + 1));
    std::vector<std::vector<int>> buffers(kBuffers, std::vector<int>(16));
    std::deque<std::unique_ptr<Transfer>> receives, sends;
    TestStream stream;
    for (auto& buffer : buffers) {
      if (rank > 0) world_[rank]->OfferBuffer(rank - 1, Bytes(buffer));
    }
    for (int step = 0; step < kSteps; ++step) {
      std::vector<int>& rows = buffers[step % kBuffers];
      // What is sent from a buffer has left before rows come to it again: the sender's host sees to that.
      if (step >= kBuffers && rank + 1 < kRanks) {
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
  ASSERT_EQ(results.size(), kSteps);
  for (int step = 0; step < kSteps; ++step) {
    int expected = 0;
    for (int rank = 0; rank < kRanks; ++rank) expected = expected * 3 + rank + step;
    EXPECT_EQ(results[step], expected) << "step " << step;
  }
}

// One buffer, whose receive is posted again while the first rows are not computed: the second copy comes
// behind what the receiver does with the first, and the marks are those of another lane or free again.
TEST_F(PeerCopiesTest, ABufferIsPostedAgainBeforeItsRowsAreThere) {
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

// Each has marks of its own: those of rows that are still computed hold up no others.
TEST_F(PeerCopiesTest, RowsThatAreThereDoNotWaitForLaterOnes) {
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

TEST_F(PeerCopiesTest, AStreamThatWaitsLateWaitsForNothing) {
  Connect(2);
  auto taken = Offered(1);
  std::vector<int> rows(100, 7);
  TestStream sender, receiver;
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  world_[0]->SendOn(sender, 1, 1, Bytes(rows))->Wait();
  receive->Wait();
  // The lane is another transfer's by now, whose rows do not come.
  const auto next = world_[1]->ReceiveOn(receiver, 0, 2, Bytes(taken[0]));
  EXPECT_TRUE(receive->WaitOn(receiver));
  receiver.Finish();
  EXPECT_EQ(taken[0], rows);
  world_[0]->SendOn(sender, 1, 2, Bytes(rows))->Wait();
  next->Wait();
}

TEST_F(PeerCopiesTest, AbortEndsEveryWait) {
  Connect(2);
  auto taken = Offered(1);
  TestStream receiver;
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  const auto of_hosts = world_[1]->Receive(0, 1, Bytes(taken[0]));
  std::thread other([&] { world_[0]->Abort("enough"); });
  EXPECT_EQ(LostSentence([&] { receive->WaitOn(receiver); }), "enough");
  other.join();
  receiver.Finish();  // nothing is on it that waits
  EXPECT_EQ(LostSentence([&] { receive->Wait(); }), "enough");
  EXPECT_EQ(LostSentence([&] { of_hosts->Wait(); }), "enough");
  const auto later = world_[0]->SendOn(receiver, 1, 2, Bytes(taken[0]));
  EXPECT_EQ(LostSentence([&] { later->Wait(); }), "enough");
}

TEST_F(PeerCopiesTest, ASenderThatDoesNotComeIsNamed) {
  Connect(2, milliseconds(100));
  auto taken = Offered(1);
  TestStream receiver;
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  EXPECT_THAT(LostSentence([&] { receive->WaitOn(receiver); }), HasSubstr("rank 0 did not send 400 bytes"));
  receiver.Finish();
}

TEST_F(PeerCopiesTest, AReceiverThatDoesNotComeIsNamed) {
  Connect(2, milliseconds(100));
  std::vector<int> rows(100);
  TestStream sender;
  const auto send = world_[0]->SendOn(sender, 1, 1, Bytes(rows));
  EXPECT_THAT(LostSentence([&] { send->Wait(); }), HasSubstr("rank 1 did not take 400 bytes"));
}

// The copy is on a stream and does not get done: the host names who computes for too long.
TEST_F(PeerCopiesTest, RowsThatAreNotComputedInTimeAreTheirSendersFault) {
  Connect(2, milliseconds(100));
  auto taken = Offered(1);
  std::vector<int> rows(100, 7);
  TestStream sender, receiver;
  Held computing(sender);
  auto send = world_[0]->SendOn(sender, 1, 1, Bytes(rows));
  auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  ASSERT_TRUE(receive->WaitOn(receiver));
  EXPECT_THAT(LostSentence([&] { receive->Wait(); }), HasSubstr("rank 0 did not send 400 bytes"));
  computing.LetGo();
  receiver.Finish();
}

TEST_F(PeerCopiesTest, ARankThatEndsIsNamed) {
  Connect(2);
  auto taken = Offered(1);
  TestStream receiver;
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  std::thread other([&] { world_[0].reset(); });
  EXPECT_THAT(LostSentence([&] { receive->WaitOn(receiver); }), HasSubstr("rank 0 has ended"));
  other.join();
}

TEST_F(PeerCopiesTest, SizesThatDisagreeEndBoth) {
  Connect(2);
  auto taken = Offered(1);
  std::vector<int> rows(50);
  TestStream sender, receiver;
  const auto receive = world_[1]->ReceiveOn(receiver, 0, 1, Bytes(taken[0]));
  const auto send = world_[0]->SendOn(sender, 1, 1, Bytes(rows));
  for (const auto* transfer : {&receive, &send}) {
    try {
      (*transfer)->Wait();
      ADD_FAILURE() << "it came";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInternal);
      EXPECT_THAT(error.what(), HasSubstr("rank 0 sends 200 bytes and rank 1 expects 400"));
    }
  }
}

TEST_F(PeerCopiesTest, OnlyOfferedBuffersReceive) {
  Connect(2);
  const auto taken = Offered(1);
  std::vector<int> other(100);
  TestStream receiver;
  EXPECT_THROW(world_[1]->ReceiveOn(receiver, 0, 1, Bytes(other)), Error);
}

// A row of ranks over two hosts: within them they copy, between them hosts carry the rows.
TEST_F(PeerCopiesTest, RanksThatCannotBeReachedHaveTheHostsForm) {
  for (const char* host : {"a", "a", "b", "b"}) {
    sharing_.push_back(std::make_unique<TestSharing>(host, std::to_string(sharing_.size())));
  }
  Connect(4);
  EXPECT_THAT(edges_[0].to, ElementsAre(1));
  EXPECT_THAT(edges_[1].to, IsEmpty());
  EXPECT_THAT(edges_[1].not_to, ElementsAre("rank 2: it is on another host"));
  EXPECT_THAT(edges_[2].from, IsEmpty());
  EXPECT_THAT(edges_[2].to, ElementsAre(3));
  std::vector<int> rows(10, 7), taken(10);
  TestStream sender, receiver;
  world_[2]->OfferBuffer(1, Bytes(taken));
  const auto receive = world_[2]->ReceiveOn(receiver, 1, 1, Bytes(taken));
  const auto send = world_[1]->SendOn(sender, 2, 1, Bytes(rows));
  EXPECT_FALSE(receive->WaitOn(receiver));
  receive->Wait();
  send->Wait();
  EXPECT_EQ(taken, rows);
}

TEST_F(PeerCopiesTest, WhatTheDriverRefusesIsSaid) {
  sharing_.push_back(std::make_unique<TestSharing>());
  sharing_[0]->Refuse("opening another process's memory: not permitted");
  sharing_.push_back(std::make_unique<TestSharing>("here", "1"));
  sharing_.push_back(std::make_unique<TestSharing>("here", "far 2"));
  Connect(3);
  EXPECT_THAT(edges_[0].not_to, ElementsAre("rank 1: opening another process's memory: not permitted"));
  EXPECT_THAT(edges_[1].not_to, ElementsAre("rank 2: GPU 1 cannot reach the memory of GPU far 2"));
  EXPECT_THAT(edges_[1].from, IsEmpty());
}

TEST_F(PeerCopiesTest, OnOneDeviceTheyCopyOnlyWhenAskedTo) {
  for (int rank = 0; rank < 2; ++rank) sharing_.push_back(std::make_unique<TestSharing>("here", "0"));
  Connect(2);
  EXPECT_THAT(edges_[0].not_to, ElementsAre(HasSubstr("rank 1: it is on the same GPU")));
  Connect(2, kLong, true);
  EXPECT_THAT(edges_[0].to, ElementsAre(1));
}

TEST_F(PeerCopiesTest, AskedForAndImpossibleIsRefusedInASentence) {
  sharing_.push_back(std::make_unique<TestSharing>("here"));
  sharing_.push_back(std::make_unique<TestSharing>("there"));
  Connect(2, kLong, true);
  EXPECT_EQ(refused_[0],
            "--hop-receive copy has rank 0 copy into the memory of rank 1: it is on another host: use "
            "--hop-receive auto, or plane");
}

}  // namespace
}  // namespace sluice::comm
