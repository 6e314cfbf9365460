#include "comm/nccl/nccl_world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>

#include "comm/nccl/nccl_test_support.h"

// The behaviours of communicator_test.cc over device memory, in worlds of 2 GPUs and of all there are; and
// what only this back end has to keep. Where there are fewer than 2 GPUs no case is instantiated.
namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

std::vector<int> Sizes() {
  const int gpus = std::min(Gpus(), 8);
  if (gpus < 2) return {};
  if (gpus == 2) return {2};
  return {2, gpus};
}

class NcclWorldTest : public ::testing::TestWithParam<int> {
 protected:
  static int Size() { return GetParam(); }
  static NcclRanks World(Duration timeout = kLong) { return MakeNcclRanks(Size(), timeout); }
};

std::vector<std::byte> Gathered(const std::vector<int64_t>& sizes) {
  std::vector<std::byte> all;
  for (size_t from = 0; from < sizes.size(); ++from) {
    const auto part = Part(static_cast<int>(from), 0, sizes[from]);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

TEST_P(NcclWorldTest, AllGathersEqualRaggedAndEmpty) {
  const std::vector<std::vector<int64_t>> shapes = {
      {1, 0, 300, 77},          {0, 0, 0, 0},      {4, 4, 4, 4}, {0, 0, 5, 0},
      {1 << 20, 3, 1, 1 << 19}, {1 << 20, 1 << 20}};
  auto world = World();
  OnAllRanks(Size(), [&](int rank) {
    for (const auto& shape : shapes) {
      std::vector<int64_t> sizes;
      for (int i = 0; i < Size(); ++i) sizes.push_back(shape[static_cast<size_t>(i) % shape.size()]);
      const auto expected = Gathered(sizes);
      const DeviceBytes mine(rank, Part(rank, 0, sizes[rank]));
      const DeviceBytes all(rank, expected.size());
      world[rank]->AllGather("gather", mine.span(), all.span(), sizes);
      ASSERT_EQ(all.Get(), expected) << "rank " << rank;
    }
    world[rank]->Barrier("end");
  });
}

TEST_P(NcclWorldTest, AllGatherInPlace) {
  auto world = World();
  OnAllRanks(Size(), [&](int rank) {
    for (const bool ragged : {false, true}) {
      std::vector<int64_t> sizes(static_cast<size_t>(Size()), 20);
      if (ragged) sizes[0] = 10;
      const auto expected = Gathered(sizes);
      const auto begin = std::accumulate(sizes.begin(), sizes.begin() + rank, int64_t{0});
      std::vector<std::byte> before(expected.size());
      const auto mine = Part(rank, 0, sizes[rank]);
      std::copy(mine.begin(), mine.end(), before.begin() + begin);
      const DeviceBytes all(rank, before);
      const auto place = all.span().subspan(static_cast<size_t>(begin), mine.size());
      world[rank]->AllGather("gather", place, all.span(), sizes);
      ASSERT_EQ(all.Get(), expected);
    }
    world[rank]->Barrier("end");
  });
}

TEST_P(NcclWorldTest, AllToAllWithEmptyPartsCountsItsBytes) {
  const int size = Size();
  const auto bytes = [](int from, int to) {
    return from == to ? 9 : (from + 2 * to) % 3 == 0 ? 0 : 1 + from * 50 + to;
  };
  auto world = World();
  OnAllRanks(size, [&](int rank) {
    std::vector<std::unique_ptr<DeviceBytes>> out, in;
    std::vector<std::span<const std::byte>> send;
    std::vector<std::span<std::byte>> receive;
    int64_t sent = 0;
    int64_t received = 0;
    for (int peer = 0; peer < size; ++peer) {
      out.push_back(std::make_unique<DeviceBytes>(rank, Part(rank, peer, bytes(rank, peer))));
      in.push_back(std::make_unique<DeviceBytes>(rank, static_cast<size_t>(bytes(peer, rank))));
      send.push_back(out.back()->span());
      receive.push_back(in.back()->span());
      if (peer == rank) continue;
      sent += bytes(rank, peer);
      received += bytes(peer, rank);
    }
    world[rank]->AllToAll("exchange", send, receive);
    for (int peer = 0; peer < size; ++peer) ASSERT_EQ(in[peer]->Get(), Part(peer, rank, bytes(peer, rank)));
    EXPECT_EQ(world[rank]->bytes_sent(), sent);
    EXPECT_EQ(world[rank]->bytes_received(), received);
    world[rank]->Barrier("end");
  });
}

TEST_P(NcclWorldTest, NobodyLeavesABarrierBeforeTheLastHasCome) {
  const int size = Size();
  auto world = World();
  std::atomic<int> arrived = 0;
  OnAllRanks(size, [&](int rank) {
    for (int round = 1; round <= 20; ++round) {
      if (rank == round % size) std::this_thread::sleep_for(milliseconds(2));
      ++arrived;
      world[rank]->Barrier("meet");
      ASSERT_GE(arrived, round * size);
      world[rank]->Barrier("part");
    }
  });
}

TEST_P(NcclWorldTest, TagsFindTheirReceivesInAnyOrder) {
  constexpr int kTags = 8;
  auto world = World();
  OnAllRanks(2, [&](int rank) {
    const int peer = 1 - rank;
    std::vector<std::unique_ptr<DeviceBytes>> out, in;
    for (int tag = 0; tag < kTags; ++tag) {
      out.push_back(std::make_unique<DeviceBytes>(rank, Part(rank, tag, 100 + tag)));
      in.push_back(std::make_unique<DeviceBytes>(rank, 100 + tag));
    }
    std::vector<std::unique_ptr<Transfer>> transfers;
    for (int i = 0; i < kTags; ++i) {
      const int send_tag = (i * 5 + 2) % kTags;
      const int receive_tag = kTags - 1 - i;
      transfers.push_back(world[rank]->Send(peer, static_cast<uint64_t>(send_tag), out[send_tag]->span()));
      transfers.push_back(
          world[rank]->Receive(peer, static_cast<uint64_t>(receive_tag), in[receive_tag]->span()));
    }
    for (auto& transfer : transfers) transfer->Wait();
    for (int tag = 0; tag < kTags; ++tag) ASSERT_EQ(in[tag]->Get(), Part(peer, tag, 100 + tag));
    world[rank]->Barrier("end");
  });
}

TEST_P(NcclWorldTest, EqualTagsMatchInOrder) {
  auto world = World();
  OnAllRanks(2, [&](int rank) {
    std::vector<std::unique_ptr<DeviceBytes>> buffers;
    for (int i = 0; i < 10; ++i) {
      buffers.push_back(rank == 0 ? std::make_unique<DeviceBytes>(0, Part(0, i, 64))
                                  : std::make_unique<DeviceBytes>(1, 64));
    }
    std::vector<std::unique_ptr<Transfer>> transfers;
    for (auto& buffer : buffers) {
      transfers.push_back(rank == 0 ? world[0]->Send(1, kTagLimit - 1, buffer->span())
                                    : world[1]->Receive(0, kTagLimit - 1, buffer->span()));
    }
    for (auto& transfer : transfers) transfer->Wait();
    for (int i = 0; i < 10; ++i) ASSERT_EQ(buffers[i]->Get(), Part(0, i, 64));
    world[rank]->Barrier("end");
  });
}

// Equal tags in several groups of the same ranks, received in the opposite order.
TEST_P(NcclWorldTest, SubgroupsNeverMix) {
  const int size = Size();
  auto world = World();
  OnAllRanks(size, [&](int rank) {
    std::vector<int> everybody(static_cast<size_t>(size));
    std::iota(everybody.begin(), everybody.end(), 0);
    std::vector<std::unique_ptr<Communicator>> groups;
    for (int g = 0; g < 3; ++g) groups.push_back(world[rank]->Subgroup(everybody));
    const int to = (rank + 1) % size;
    const int from = (rank + size - 1) % size;
    std::vector<std::unique_ptr<DeviceBytes>> out, in;
    for (int g = 0; g < 3; ++g) {
      out.push_back(std::make_unique<DeviceBytes>(rank, Part(rank, to + 10 * g, 32)));
      in.push_back(std::make_unique<DeviceBytes>(rank, 32));
    }
    std::vector<std::unique_ptr<Transfer>> sends;
    for (int g = 0; g < 3; ++g) sends.push_back(groups[g]->Send(to, 7, out[g]->span()));
    for (int g = 3; g-- > 0;) {
      groups[g]->Receive(from, 7, in[g]->span())->Wait();
      ASSERT_EQ(in[g]->Get(), Part(from, rank + 10 * g, 32));
    }
    for (auto& send : sends) send->Wait();
    const std::vector<int64_t> sizes(static_cast<size_t>(size), 3);
    const DeviceBytes all(rank, sizes.size() * 3);
    for (int round = 0; round < 5; ++round) {
      const DeviceBytes mine(rank, Part(rank, 0, 3));
      for (auto& group : groups) {
        group->AllGather("gather", mine.span(), all.span(), sizes);
        ASSERT_EQ(all.Get(), Gathered(sizes));
      }
    }
    world[rank]->Barrier("end");
  });
}

// As a hop does it: receives are posted long before their sends, while the same ranks go on with collectives.
TEST_P(NcclWorldTest, AReceivePostedAheadHoldsUpNothing) {
  auto world = World();
  OnAllRanks(Size(), [&](int rank) {
    const DeviceBytes ahead(rank, 1 << 20);
    const DeviceBytes out(rank, Part(rank, 9, 1 << 20));
    std::unique_ptr<Transfer> transfer;
    if (rank == 1) transfer = world[1]->Receive(0, 5, ahead.span());
    const std::vector<int64_t> sizes(static_cast<size_t>(Size()), 1000);
    const DeviceBytes mine(rank, Part(rank, 0, 1000));
    const DeviceBytes all(rank, sizes.size() * 1000);
    for (int round = 0; round < 20; ++round) {
      world[rank]->AllGather("gather", mine.span(), all.span(), sizes);
      ASSERT_EQ(all.Get(), Gathered(sizes));
    }
    if (rank == 0) transfer = world[0]->Send(1, 5, out.span());
    if (transfer != nullptr) transfer->Wait();
    if (rank == 1) {
      ASSERT_EQ(ahead.Get(), Part(0, 9, 1 << 20));
    }
    world[rank]->Barrier("end");
  });
}

// Transfers of all pairs in both directions, posted in different orders, with collectives in between. All
// memory is there beforehand: nobody allocates while something is under way.
TEST_P(NcclWorldTest, StressOfPairs) {
  constexpr int kRounds = 60;
  const int size = Size();
  const auto bytes = [](int round) { return 1 + (round * 4099) % 50'000; };
  auto world = World();
  OnAllRanks(size, [&](int rank) {
    std::vector<std::unique_ptr<DeviceBytes>> out, in;
    for (int i = 0; i < kRounds * size; ++i) {
      const int round = i / size;
      out.push_back(std::make_unique<DeviceBytes>(rank, Part(rank, i % size + round, bytes(round))));
      in.push_back(std::make_unique<DeviceBytes>(rank, static_cast<size_t>(bytes(round))));
    }
    const DeviceBytes mine(rank, Part(rank, 0, 64));
    const std::vector<int64_t> sizes(static_cast<size_t>(size), 64);
    const DeviceBytes all(rank, 64 * sizes.size());
    world[rank]->Barrier("ready");
    std::vector<std::unique_ptr<Transfer>> transfers;
    for (int round = 0; round < kRounds; ++round) {
      const auto tag = static_cast<uint64_t>(round % 3);
      for (int i = 0; i < size; ++i) {
        const int peer = (i + round) % size;
        if (peer == rank) continue;
        const int at = round * size + peer;
        const bool first = (round + rank) % 2 == 0;
        if (first) transfers.push_back(world[rank]->Send(peer, tag, out[at]->span()));
        transfers.push_back(world[rank]->Receive(peer, tag, in[at]->span()));
        if (!first) transfers.push_back(world[rank]->Send(peer, tag, out[at]->span()));
      }
      if (round % 5 == 0) world[rank]->AllGather("gather", mine.span(), all.span(), sizes);
      if (round % 7 == 0) transfers.clear();
    }
    transfers.clear();
    world[rank]->Barrier("end");
    EXPECT_EQ(all.Get(), Gathered(sizes));
    for (int i = 0; i < kRounds * size; ++i) {
      if (i % size == rank) continue;
      ASSERT_EQ(in[i]->Get(), Part(i % size, rank + i / size, bytes(i / size))) << "round " << i / size;
    }
  });
}

TEST_P(NcclWorldTest, WaitsCarryTheirNameAndPeer) {
  auto world = MakeNcclRanks(2, kLong);
  trace::Recorder recorder(0);
  world[0]->SetRecorder(&recorder);
  const std::vector<int64_t> sizes = {4, 4};
  const auto gather = [&](int rank) {
    const DeviceBytes mine(rank, Part(rank, 0, 4));
    const DeviceBytes all(rank, 8);
    world[rank]->AllGather("gather latents", mine.span(), all.span(), sizes);
    EXPECT_EQ(all.Get(), Gathered(sizes));
  };
  std::thread peer([&] {
    const Deadline limit = Clock::now() + seconds(5);
    auto wait = recorder.CurrentWait();
    while (!wait.has_value() && Clock::now() < limit) {
      std::this_thread::sleep_for(milliseconds(1));
      wait = recorder.CurrentWait();
    }
    ASSERT_TRUE(wait.has_value());
    EXPECT_EQ(wait->op, "gather latents");
    EXPECT_EQ(wait->peer, 1);
    gather(1);
  });
  gather(0);
  peer.join();
  EXPECT_FALSE(recorder.CurrentWait().has_value());
  ASSERT_EQ(recorder.Spans().size(), 1U);
  EXPECT_EQ(recorder.Spans()[0].kind, trace::SpanKind::kCollective);
}

TEST_P(NcclWorldTest, CollectivesRefuseHostMemory) {
  auto world = MakeNcclRanks(2, kLong);
  std::vector<std::byte> host(8);
  try {
    world[0]->AllGather("gather", std::span(host).first(4), host, std::vector<int64_t>{4, 4});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.what(), HasSubstr("4 bytes are not memory of CUDA device 0"));
  }
}

TEST_P(NcclWorldTest, EmptyTransfersNeedNobody) {
  auto world = MakeNcclRanks(2, kLong);
  world[0]->Send(1, 1, {})->Wait();
  world[0]->Receive(1, 1, {})->Wait();
  EXPECT_EQ(world[0]->bytes_sent() + world[0]->bytes_received(), 0);
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(NcclWorldTest);
INSTANTIATE_TEST_SUITE_P(Gpus, NcclWorldTest, ::testing::ValuesIn(Sizes()),
                         [](const auto& size) { return fmt::format("{}Gpus", size.param); });

TEST(NcclConfigTest, WhatIsNotThereIsRefused) {
  LocalStore store;
  const auto sentence = [&](const NcclConfig& config) -> std::string {
    try {
      MakeNcclWorld(3, 4, store, kLoopback, config, kLong);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(sentence({.device = 99}), HasSubstr("rank 3 is to use CUDA device 99"));
  EXPECT_THAT(sentence({.device = -1}), HasSubstr("rank 3 is to use CUDA device -1"));
  if (Gpus() > 0) {
    EXPECT_THAT(sentence({.device = 0, .max_channels = -2}), HasSubstr("-2 NCCL channels"));
  }
}

}  // namespace
}  // namespace sluice::comm
