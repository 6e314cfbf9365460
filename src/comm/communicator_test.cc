#include "comm/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "comm/test_worlds.h"

// Every behaviour of a communicator, over every back end that can run here.
namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

class CommunicatorTest : public ::testing::TestWithParam<BackEnd> {
 protected:
  static std::vector<std::unique_ptr<Communicator>> World(int size, Duration timeout = kLong) {
    return MakeWorld(GetParam(), size, timeout);
  }
};

std::vector<std::byte> Gathered(const std::vector<int64_t>& sizes) {
  std::vector<std::byte> all;
  for (size_t from = 0; from < sizes.size(); ++from) {
    const auto part = Part(static_cast<int>(from), 0, sizes[from]);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

TEST_P(CommunicatorTest, RaggedAllGather) {
  const std::vector<std::vector<int64_t>> cases = {
      {1, 0, 300, 77}, {0, 0, 0, 0}, {4, 4, 4, 4}, {0, 0, 5, 0}, {1 << 20, 3, 1, 1 << 19}};
  auto world = World(4);
  OnAllRanks(4, [&](int rank) {
    for (const auto& sizes : cases) {
      const auto mine = Part(rank, 0, sizes[rank]);
      const auto expected = Gathered(sizes);
      std::vector<std::byte> all(expected.size());
      world[rank]->AllGather("gather", mine, all, sizes);
      ASSERT_EQ(all, expected) << "rank " << rank;
    }
    world[rank]->Barrier("end");
  });
}

TEST_P(CommunicatorTest, AllGatherInPlace) {
  const std::vector<int64_t> sizes = {10, 20, 30};
  auto world = World(3);
  OnAllRanks(3, [&](int rank) {
    std::vector<std::byte> all(60);
    const size_t begin = rank == 0 ? 0 : rank == 1 ? 10 : 30;
    const auto mine = Part(rank, 0, sizes[rank]);
    const auto place = std::span(all).subspan(begin, mine.size());
    std::copy(mine.begin(), mine.end(), place.begin());
    world[rank]->AllGather("gather", place, all, sizes);
    ASSERT_EQ(all, Gathered(sizes));
    world[rank]->Barrier("end");
  });
}

TEST_P(CommunicatorTest, AllToAllWithEmptyPartsCountsItsBytes) {
  constexpr int kSize = 4;
  const auto bytes = [](int from, int to) {
    return from == to ? 9 : (from + 2 * to) % 3 == 0 ? 0 : from * 50 + to;
  };
  auto world = World(kSize);
  OnAllRanks(kSize, [&](int rank) {
    std::vector<std::vector<std::byte>> out(kSize), in(kSize);
    std::vector<std::span<const std::byte>> send;
    std::vector<std::span<std::byte>> receive;
    int64_t sent = 0;
    int64_t received = 0;
    for (int peer = 0; peer < kSize; ++peer) {
      out[peer] = Part(rank, peer, bytes(rank, peer));
      in[peer].resize(static_cast<size_t>(bytes(peer, rank)));
      send.emplace_back(out[peer]);
      receive.emplace_back(in[peer]);
      if (peer == rank) continue;
      sent += bytes(rank, peer);
      received += bytes(peer, rank);
    }
    world[rank]->AllToAll("exchange", send, receive);
    for (int peer = 0; peer < kSize; ++peer) ASSERT_EQ(in[peer], Part(peer, rank, bytes(peer, rank)));
    EXPECT_EQ(world[rank]->bytes_sent(), sent);
    EXPECT_EQ(world[rank]->bytes_received(), received);
    world[rank]->Barrier("end");
  });
}

TEST_P(CommunicatorTest, NobodyLeavesABarrierBeforeTheLastHasCome) {
  constexpr int kSize = 4;
  auto world = World(kSize);
  std::atomic<int> arrived = 0;
  OnAllRanks(kSize, [&](int rank) {
    for (int round = 1; round <= 20; ++round) {
      if (rank == round % kSize) std::this_thread::sleep_for(milliseconds(2));
      ++arrived;
      world[rank]->Barrier("meet");
      ASSERT_GE(arrived, round * kSize);
      world[rank]->Barrier("part");
    }
  });
}

TEST_P(CommunicatorTest, TagsFindTheirReceivesInAnyOrder) {
  constexpr int kTags = 8;
  auto world = World(2);
  OnAllRanks(2, [&](int rank) {
    const int peer = 1 - rank;
    std::vector<std::vector<std::byte>> out, in(kTags, std::vector<std::byte>(100));
    std::vector<std::unique_ptr<Transfer>> transfers;
    for (int tag = 0; tag < kTags; ++tag) out.push_back(Part(rank, tag, 100));
    for (int i = 0; i < kTags; ++i) {
      const int send_tag = (i * 5 + 2) % kTags;
      const int receive_tag = kTags - 1 - i;
      transfers.push_back(world[rank]->Send(peer, static_cast<uint64_t>(send_tag), out[send_tag]));
      transfers.push_back(world[rank]->Receive(peer, static_cast<uint64_t>(receive_tag), in[receive_tag]));
    }
    for (auto& transfer : transfers) transfer->Wait();
    for (int tag = 0; tag < kTags; ++tag) ASSERT_EQ(in[tag], Part(peer, tag, 100)) << "tag " << tag;
    world[rank]->Barrier("end");
  });
}

TEST_P(CommunicatorTest, EqualTagsMatchInOrder) {
  auto world = World(2);
  OnAllRanks(2, [&](int rank) {
    std::vector<std::vector<std::byte>> buffers;
    for (int i = 0; i < 10; ++i) buffers.push_back(rank == 0 ? Part(0, i, 64) : std::vector<std::byte>(64));
    std::vector<std::unique_ptr<Transfer>> transfers;
    for (auto& buffer : buffers) {
      transfers.push_back(rank == 0 ? world[0]->Send(1, kTagLimit - 1, buffer)
                                    : world[1]->Receive(0, kTagLimit - 1, buffer));
    }
    for (auto& transfer : transfers) transfer->Wait();
    for (int i = 0; i < 10; ++i) ASSERT_EQ(buffers[i], Part(0, i, 64));
    world[rank]->Barrier("end");
  });
}

// All groups use the same tags at once; a row and a column of the grid share exactly one rank, the world all.
TEST_P(CommunicatorTest, SubgroupsInParallelNeverMix) {
  constexpr int kSize = 4;
  auto world = World(kSize);
  OnAllRanks(kSize, [&](int rank) {
    const std::vector<int> row = rank < 2 ? std::vector{0, 1} : std::vector{2, 3};
    const std::vector<int> pair = rank % 3 == 0 ? std::vector{0, 3} : std::vector{1, 2};
    const std::vector<std::vector<int>> lists = {row, pair, {0, 1, 2, 3}, row};
    std::vector<std::unique_ptr<Communicator>> groups;
    for (const auto& members : lists) groups.push_back(world[rank]->Subgroup(members));

    std::vector<std::vector<std::byte>> out, in;
    std::vector<std::unique_ptr<Transfer>> transfers;
    out.reserve(64);
    in.reserve(64);
    // Sends in the order of groups, receives in the opposite one: only the group tells them apart.
    for (size_t g = 0; g < groups.size(); ++g) {
      for (int peer = 0; peer < groups[g]->size(); ++peer) {
        if (peer == groups[g]->rank()) continue;
        EXPECT_EQ(groups[g]->GlobalRank(peer), lists[g][peer]);
        out.push_back(Part(rank, lists[g][peer] + 10 * static_cast<int>(g), 32));
        transfers.push_back(groups[g]->Send(peer, 7, out.back()));
      }
    }
    for (size_t g = groups.size(); g-- > 0;) {
      for (int peer = 0; peer < groups[g]->size(); ++peer) {
        if (peer == groups[g]->rank()) continue;
        in.emplace_back(32);
        groups[g]->Receive(peer, 7, in.back())->Wait();
        ASSERT_EQ(in.back(), Part(lists[g][peer], rank + 10 * static_cast<int>(g), 32));
      }
    }
    for (auto& transfer : transfers) transfer->Wait();
    // Collectives of the groups, each rank's in its own order of time.
    for (int round = 0; round < 10; ++round) {
      for (auto& group : groups) {
        const std::vector<int64_t> sizes(static_cast<size_t>(group->size()), 3);
        std::vector<std::byte> all(sizes.size() * 3);
        group->AllGather("gather", Part(rank, round, 3), all, sizes);
        for (int peer = 0; peer < group->size(); ++peer) {
          const auto expected = Part(group->GlobalRank(peer), round, 3);
          ASSERT_TRUE(std::equal(expected.begin(), expected.end(), all.begin() + peer * 3));
        }
      }
    }
    world[rank]->Barrier("end");
  });
}

TEST_P(CommunicatorTest, SubgroupsOfSubgroupsKeepGlobalNames) {
  auto world = World(4);
  OnAllRanks(4, [&](int rank) {
    if (rank == 0) {
      world[0]->Barrier("end");
      return;
    }
    const auto three = world[rank]->Subgroup(std::vector{1, 2, 3});
    if (rank != 2) {
      const auto two = three->Subgroup(std::vector{0, 2});
      EXPECT_EQ(two->GlobalRank(1 - two->rank()), rank == 1 ? 3 : 1);
      two->Barrier("two");
    }
    three->Barrier("three");
    world[rank]->Barrier("end");
  });
}

TEST_P(CommunicatorTest, TimeOutsNameThePeer) {
  auto world = World(3, milliseconds(1500));
  auto group = world[2]->Subgroup(std::vector{0, 2});
  std::vector<std::byte> buffer(8);
  std::string sentence;
  const double took =
      SecondsOf([&] { sentence = LostSentence([&] { group->Receive(0, 1, buffer)->Wait(); }); });
  EXPECT_THAT(sentence, HasSubstr("rank 0 did not send 8 bytes within 1500 ms"));
  EXPECT_GE(took, 1.49);
  // Spent: the next wait ends at once with the same sentence.
  const double again =
      SecondsOf([&] { EXPECT_EQ(LostSentence([&] { world[2]->Send(1, 1, buffer)->Wait(); }), sentence); });
  EXPECT_LT(again, 1.49);
}

TEST_P(CommunicatorTest, AbortEndsWaitsNowAndLater) {
  auto world = World(2);
  std::vector<std::byte> buffer(8);
  std::thread watchdog([&] {
    std::this_thread::sleep_for(milliseconds(100));
    world[0]->Abort("rank 1 stands still");
    world[0]->Abort("a second opinion");
  });
  // Neither the time limit's sentence nor the second abort's.
  EXPECT_EQ(LostSentence([&] { world[0]->Receive(1, 1, buffer)->Wait(); }), "rank 1 stands still");
  watchdog.join();
  EXPECT_EQ(LostSentence([&] { world[0]->Barrier("later"); }), "rank 1 stands still");
}

TEST_P(CommunicatorTest, ARankThatIsGoneEndsTheWaitsForIt) {
  auto world = World(3);
  std::vector<std::byte> buffer(8);
  std::thread leaver([&] {
    std::this_thread::sleep_for(milliseconds(100));
    world[1].reset();
  });
  const std::string sentence = LostSentence([&] { world[0]->Receive(1, 1, buffer)->Wait(); });
  leaver.join();
  EXPECT_THAT(sentence, HasSubstr("rank 1"));
  EXPECT_THAT(sentence, Not(HasSubstr("within")));  // it waits for no time limit
}

// A rank may find out while it has nothing under way whose end others would see.
TEST_P(CommunicatorTest, ARankThatFindsOutWhenItPostsEndsTheWaitsForIt) {
  auto world = World(3);
  std::vector<std::byte> buffer(8);
  world[2].reset();
  std::this_thread::sleep_for(milliseconds(100));  // it is known to have gone when rank 0 posts
  std::thread poster([&] { LostSentence([&] { world[0]->Receive(2, 1, buffer)->Wait(); }); });
  std::vector<std::byte> from_poster(8);
  const std::string sentence = LostSentence([&] { world[1]->Receive(0, 1, from_poster)->Wait(); });
  poster.join();
  EXPECT_THAT(sentence, HasSubstr("rank 2"));
}

TEST_P(CommunicatorTest, WaitsCarryTheirNameAndPeer) {
  auto world = World(2);
  trace::Recorder recorder(0);
  world[0]->SetRecorder(&recorder);
  std::thread peer([&] {
    // Rank 1 comes late, so that rank 0 is seen waiting.
    const Deadline limit = Clock::now() + std::chrono::seconds(5);
    auto wait = recorder.CurrentWait();
    while (!wait.has_value() && Clock::now() < limit) {
      std::this_thread::sleep_for(milliseconds(1));
      wait = recorder.CurrentWait();
    }
    ASSERT_TRUE(wait.has_value());
    EXPECT_EQ(wait->op, "meet");
    EXPECT_EQ(wait->peer, 1);
    world[1]->Barrier("meet");
  });
  world[0]->Barrier("meet");
  peer.join();
  EXPECT_FALSE(recorder.CurrentWait().has_value());
  const auto spans = recorder.Spans();
  ASSERT_EQ(spans.size(), 1U);
  EXPECT_EQ(spans[0].kind, trace::SpanKind::kCollective);
}

TEST_P(CommunicatorTest, EmptyTransfersAndAWorldOfOneNeedNobody) {
  auto world = World(1);
  std::vector<std::byte> all(3);
  const std::vector<int64_t> sizes = {3};
  world[0]->AllGather("gather", Part(0, 0, 3), all, sizes);
  EXPECT_EQ(all, Part(0, 0, 3));
  world[0]->Barrier("alone");
  auto two = World(2);
  two[0]->Send(1, 1, {})->Wait();
  two[0]->Receive(1, 1, {})->Wait();
  EXPECT_EQ(two[0]->bytes_sent() + two[0]->bytes_received(), 0);
}

INSTANTIATE_TEST_SUITE_P(BackEnds, CommunicatorTest,
                         ::testing::Values(BackEnd::kThreads, BackEnd::kGloo, BackEnd::kStaged),
                         [](const auto& back_end) { return NameOf(back_end.param); });

TEST(ThreadWorldTest, SizesThatDisagreeEndTheWorld) {
  auto world = MakeThreadWorld(2, kLong);
  std::vector<std::byte> eight(8), nine(9);
  auto receive = world[1]->Receive(0, 1, nine);
  try {
    world[0]->Send(1, 1, eight);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.what(), HasSubstr("rank 0 sends 8 bytes and rank 1 expects 9"));
  }
  EXPECT_THAT(LostSentence([&] { receive->Wait(); }), HasSubstr("rank 0 sends 8 bytes"));
}

TEST(ThreadWorldTest, ATransferIsCompleteOncePostedOnBothSides) {
  auto world = MakeThreadWorld(2, kLong);
  const auto out = Part(0, 1, 16);
  std::vector<std::byte> in(16);
  auto send = world[0]->Send(1, 3, out);
  auto receive = world[1]->Receive(0, 3, in);
  EXPECT_EQ(in, out);
  send->Wait();
  receive->Wait();
}

// Random traffic between threads that come, wait and go at different times.
TEST(ThreadWorldTest, StressOfPairs) {
  constexpr int kSize = 4;
  constexpr int kRounds = 200;
  auto world = MakeThreadWorld(kSize, kLong);
  OnAllRanks(kSize, [&](int rank) {
    for (int round = 0; round < kRounds; ++round) {
      std::vector<std::vector<std::byte>> out(kSize), in(kSize);
      std::vector<std::unique_ptr<Transfer>> transfers;
      for (int i = 0; i < kSize; ++i) {
        const int peer = (i + round) % kSize;
        if (peer == rank) continue;
        out[peer] = Part(rank, peer + round, 1 + (round * 13) % 500);
        in[peer].resize(out[peer].size());
        const auto tag = static_cast<uint64_t>(round % 3);
        if ((round + rank) % 2 == 0) transfers.push_back(world[rank]->Send(peer, tag, out[peer]));
        transfers.push_back(world[rank]->Receive(peer, tag, in[peer]));
        if ((round + rank) % 2 == 1) transfers.push_back(world[rank]->Send(peer, tag, out[peer]));
      }
      for (auto& transfer : transfers) transfer->Wait();
      for (int peer = 0; peer < kSize; ++peer) {
        if (peer == rank) continue;
        ASSERT_EQ(in[peer], Part(peer, rank + round, 1 + (round * 13) % 500));
      }
    }
    world[rank].reset();
  });
}

}  // namespace
}  // namespace sluice::comm
