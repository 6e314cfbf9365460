#include "comm/peer_copies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "comm/test_copies.h"
#include "comm/test_streams.h"
#include "comm/test_worlds.h"

// Copies into other ranks' memory, over streams that are threads of the test and names that are addresses:
// who is reached by them, and what they refuse. What they promise as transfers is stream_transfers_test.cc's.
namespace sluice::comm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PeerCopiesTest : public testing::Test {
 protected:
  void Connect(Sharings sharings, bool required = false) {
    chain_ = {};  // before what it shares
    sharings_ = std::move(sharings);
    chain_ = MakeCopyChain(sharings_, memory_, kLong, required);
  }
  static std::span<std::byte> Bytes(std::vector<int>& values) {
    return std::as_writable_bytes(std::span(values));
  }

  StreamMemory memory_;
  Sharings sharings_;
  CopyChain chain_;
};

TEST_F(PeerCopiesTest, SizesThatDisagreeEndBoth) {
  Connect(OnOneHost(2));
  std::vector<int> rows(50), taken(100);
  chain_.world[1]->OfferBuffer(0, Bytes(taken));
  TestStream sender, receiver;
  const auto receive = chain_.world[1]->ReceiveOn(receiver, 0, 1, Bytes(taken));
  const auto send = chain_.world[0]->SendOn(sender, 1, 1, Bytes(rows));
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

// A thread that has heard of the buffer is putting the copy on a stream when its rank fails: the rows are in
// use until the copy is over, and who gives up the send waits for that.
TEST_F(PeerCopiesTest, ASendThatIsBeingPutOnAStreamIsNotGivenUp) {
  std::promise<void> at_copy, giving_up, given_up;
  std::promise<bool> given_up_first;
  memory_.SetBeforeCopy([&] {
    at_copy.set_value();
    giving_up.get_future().wait();
    // Not a limit on what is tested: long enough for who does not wait.
    const auto state = given_up.get_future().wait_for(std::chrono::milliseconds(500));
    given_up_first.set_value(state == std::future_status::ready);
  });
  Connect(OnOneHost(2));
  std::vector<int> rows(100, 7), taken(100);
  chain_.world[1]->OfferBuffer(0, Bytes(taken));
  TestStream sender, receiver;
  auto send = chain_.world[0]->SendOn(sender, 1, 1, Bytes(rows));
  const auto receive = chain_.world[1]->ReceiveOn(receiver, 0, 1, Bytes(taken));
  at_copy.get_future().wait();
  chain_.world[0]->Abort("enough");
  giving_up.set_value();
  send.reset();
  given_up.set_value();
  EXPECT_FALSE(given_up_first.get_future().get());
  EXPECT_EQ(taken, rows);
}

TEST_F(PeerCopiesTest, OnlyOfferedBuffersReceive) {
  Connect(OnOneHost(2));
  std::vector<int> offered(100), other(100);
  chain_.world[1]->OfferBuffer(0, Bytes(offered));
  TestStream receiver;
  EXPECT_THROW(chain_.world[1]->ReceiveOn(receiver, 0, 1, Bytes(other)), Error);
}

// A row of ranks over two hosts: within them they copy, between them hosts carry the rows.
TEST_F(PeerCopiesTest, RanksThatCannotBeReachedHaveTheHostsForm) {
  Sharings sharings;
  for (const char* host : {"a", "a", "b", "b"}) {
    sharings.push_back(std::make_unique<TestSharing>(host, std::to_string(sharings.size())));
  }
  Connect(std::move(sharings));
  EXPECT_THAT(chain_.edges[0].to, ElementsAre(1));
  EXPECT_THAT(chain_.edges[1].to, IsEmpty());
  EXPECT_THAT(chain_.edges[1].not_to, ElementsAre("rank 2: it is on another host"));
  EXPECT_THAT(chain_.edges[2].from, IsEmpty());
  EXPECT_THAT(chain_.edges[2].to, ElementsAre(3));
  std::vector<int> rows(10, 7), taken(10);
  TestStream sender, receiver;
  chain_.world[2]->OfferBuffer(1, Bytes(taken));
  const auto receive = chain_.world[2]->ReceiveOn(receiver, 1, 1, Bytes(taken));
  const auto send = chain_.world[1]->SendOn(sender, 2, 1, Bytes(rows));
  EXPECT_FALSE(receive->WaitOn(receiver));
  receive->Wait();
  send->Wait();
  EXPECT_EQ(taken, rows);
}

TEST_F(PeerCopiesTest, WhatTheDriverRefusesIsSaid) {
  Sharings sharings = OnOneHost(2);
  sharings[0]->Refuse("opening another process's memory: not permitted");
  sharings.push_back(std::make_unique<TestSharing>("here", "far 2"));
  Connect(std::move(sharings));
  EXPECT_THAT(chain_.edges[0].not_to, ElementsAre("rank 1: opening another process's memory: not permitted"));
  EXPECT_THAT(chain_.edges[1].not_to, ElementsAre("rank 2: GPU 1 cannot reach the memory of GPU far 2"));
  EXPECT_THAT(chain_.edges[1].from, IsEmpty());
}

TEST_F(PeerCopiesTest, OnOneDeviceTheyCopyOnlyWhenAskedTo) {
  const auto on_one_device = [] {
    Sharings sharings;
    for (int rank = 0; rank < 2; ++rank) sharings.push_back(std::make_unique<TestSharing>("here", "0"));
    return sharings;
  };
  Connect(on_one_device());
  EXPECT_THAT(chain_.edges[0].not_to, ElementsAre(HasSubstr("rank 1: it is on the same GPU")));
  Connect(on_one_device(), true);
  EXPECT_THAT(chain_.edges[0].to, ElementsAre(1));
}

TEST_F(PeerCopiesTest, AskedForAndImpossibleIsRefusedInASentence) {
  Sharings sharings;
  for (const char* host : {"here", "there"}) sharings.push_back(std::make_unique<TestSharing>(host));
  Connect(std::move(sharings), true);
  EXPECT_EQ(chain_.refused[0],
            "--hop-receive copy has rank 0 copy into the memory of rank 1: it is on another host: use "
            "--hop-receive auto, or plane");
}

}  // namespace
}  // namespace sluice::comm
