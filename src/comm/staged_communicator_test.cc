#include "comm/staged_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>

#include "comm/pretend_device.h"
#include "comm/test_worlds.h"
#include "tensor/tensor.h"

// What communicator_test says of every back end holds here too, over buffers of the host; this is about
// buffers that only the device's Copy reaches.
namespace sluice::comm {
namespace {

// Counts what is taken, so that a test sees what is used again.
class CountedHost final : public Memory {
 public:
  bool OnHost() const override { return true; }
  std::byte* Allocate(int64_t bytes) override {
    ++allocations;
    return HostMemory().Allocate(bytes);
  }
  void Free(std::byte* memory, int64_t bytes) noexcept override { HostMemory().Free(memory, bytes); }
  void Copy(const void* from, void* to, int64_t bytes) override { HostMemory().Copy(from, to, bytes); }
  std::atomic<int> allocations = 0;
};

class StagedCommunicatorTest : public ::testing::Test {
 protected:
  std::vector<std::unique_ptr<Communicator>> World(int size, BackEnd back_end = BackEnd::kGloo) {
    auto world = MakeWorld(back_end, size, kLong);
    for (auto& rank : world) rank = MakeStaged(std::move(rank), device_, staging_);
    return world;
  }
  // Bytes on the device, by way of its Copy.
  Buffer Put(const std::vector<std::byte>& host) {
    Buffer buffer(std::ssize(host), device_);
    device_.Copy(host.data(), buffer.data(), std::ssize(host));
    return buffer;
  }
  std::vector<std::byte> Get(const Buffer& buffer) {
    std::vector<std::byte> host(static_cast<size_t>(buffer.bytes()));
    device_.Copy(buffer.data(), host.data(), buffer.bytes());
    return host;
  }
  static std::span<std::byte> Span(const Buffer& buffer) {
    return {buffer.data(), static_cast<size_t>(buffer.bytes())};
  }

  PretendDevice device_;
  CountedHost staging_;
};

TEST_F(StagedCommunicatorTest, TransfersBetweenDeviceBuffersInAnyOrder) {
  auto world = World(2);
  EXPECT_EQ(&world[0]->memory(), &device_);
  OnAllRanks(2, [&](int rank) {
    std::deque<Buffer> out, in;
    std::vector<std::unique_ptr<Transfer>> transfers;
    for (int tag = 0; tag < 6; ++tag) {
      out.push_back(Put(Part(rank, tag, 1000 * tag + 1)));
      transfers.push_back(world[rank]->Send(1 - rank, static_cast<uint64_t>(tag), Span(out.back())));
    }
    for (int tag = 5; tag >= 0; --tag) {
      in.emplace_back(1000 * tag + 1, device_);
      transfers.push_back(world[rank]->Receive(1 - rank, static_cast<uint64_t>(tag), Span(in.back())));
    }
    for (auto& transfer : transfers) transfer->Wait();
    for (int tag = 0; tag < 6; ++tag) {
      ASSERT_EQ(Get(in[static_cast<size_t>(5 - tag)]), Part(1 - rank, tag, 1000 * tag + 1));
    }
    world[rank]->Barrier("end");
  });
}

TEST_F(StagedCommunicatorTest, WhatIsSentMayChangeOnceSendHasReturned) {
  auto world = World(2);
  OnAllRanks(2, [&](int rank) {
    if (rank == 0) {
      const Buffer buffer = Put(Part(0, 1, 5000));
      const auto sent = world[0]->Send(1, 1, Span(buffer));
      const std::vector<std::byte> other(5000);
      device_.Copy(other.data(), buffer.data(), 5000);
      world[0]->Barrier("changed");
      sent->Wait();
    } else {
      world[1]->Barrier("changed");
      const Buffer buffer(5000, device_);
      world[1]->Receive(0, 1, Span(buffer));  // the end of a transfer is its wait as well
      EXPECT_EQ(Get(buffer), Part(0, 1, 5000));
    }
    world[rank]->Barrier("end");
  });
}

TEST_F(StagedCommunicatorTest, CollectivesOfRaggedAndEmptyPartsAndInPlace) {
  constexpr int kSize = 4;
  auto world = World(kSize);
  const std::vector<int64_t> sizes = {70'000, 0, 1, 333};
  std::vector<std::byte> expected;
  for (int from = 0; from < kSize; ++from) {
    const auto part = Part(from, 0, sizes[from]);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  const auto bytes = [](int from, int to) {
    return (from + to) % 3 == 0 && from != to ? 0 : from * 50 + to + 1;
  };
  OnAllRanks(kSize, [&](int rank) {
    const auto group = world[rank]->Subgroup(std::vector{0, 1, 2, 3});
    int64_t before = 0;
    for (int from = 0; from < rank; ++from) before += sizes[from];
    const Buffer all(std::ssize(expected), device_);
    const Buffer mine = Put(Part(rank, 0, sizes[rank]));
    group->AllGather("gather", Span(mine).first(static_cast<size_t>(sizes[rank])), Span(all), sizes);
    ASSERT_EQ(Get(all), expected);

    const Buffer in_place(std::ssize(expected), device_);
    const auto place = Span(in_place).subspan(static_cast<size_t>(before), static_cast<size_t>(sizes[rank]));
    device_.Copy(Part(rank, 0, sizes[rank]).data(), place.data(), sizes[rank]);
    group->AllGather("gather", place, Span(in_place), sizes);
    ASSERT_EQ(Get(in_place), expected);

    std::deque<Buffer> out, in;
    std::vector<std::span<const std::byte>> send;
    std::vector<std::span<std::byte>> receive;
    for (int peer = 0; peer < kSize; ++peer) {
      const auto part = Part(rank, peer, bytes(rank, peer));
      out.push_back(Put(part));
      in.emplace_back(bytes(peer, rank), device_);
      send.push_back(Span(out.back()));
      receive.push_back(Span(in.back()));
    }
    group->AllToAll("exchange", send, receive);
    for (int peer = 0; peer < kSize; ++peer) {
      ASSERT_EQ(Get(in[peer]), Part(peer, rank, bytes(peer, rank))) << peer;
    }
    world[rank]->Barrier("end");
  });
}

TEST_F(StagedCommunicatorTest, AloneNothingIsStaged) {
  auto world = World(1);
  const Buffer mine = Put(Part(0, 0, 300));
  const Buffer all(300, device_);
  world[0]->AllGather("gather", Span(mine), Span(all), std::vector<int64_t>{300});
  EXPECT_EQ(Get(all), Part(0, 0, 300));
  EXPECT_EQ(staging_.allocations, 0);
}

// The device's work before a transfer, and before a collective, is waited for by its fence.
TEST_F(StagedCommunicatorTest, EveryCopyIsBehindTheFence) {
  auto world = World(2, BackEnd::kThreads);
  std::array<std::atomic<int>, 2> fences = {};
  for (int rank = 0; rank < 2; ++rank)
    world[rank]->SetFence([&fences, rank](const StreamMark*) { ++fences[rank]; });
  OnAllRanks(2, [&](int rank) {
    const Buffer mine = Put(Part(rank, 0, 8));
    const Buffer other(8, device_);
    const Buffer all(16, device_);
    const auto fenced = [&](const auto& op) {
      const int before = fences[rank];
      op();
      EXPECT_GT(fences[rank], before);
    };
    std::unique_ptr<Transfer> sent;
    fenced([&] { sent = world[rank]->Send(1 - rank, 1, Span(mine)); });
    fenced([&] { world[rank]->Receive(1 - rank, 1, Span(other))->Wait(); });
    fenced([&] { world[rank]->AllGather("gather", Span(mine), Span(all), std::vector<int64_t>{8, 8}); });
    const std::vector<std::span<const std::byte>> send(2, Span(mine));
    const std::vector<std::span<std::byte>> receive = {Span(all).first(8), Span(all).last(8)};
    fenced([&] { world[rank]->AllToAll("exchange", send, receive); });
    world[rank]->Barrier("end");
  });
}

TEST_F(StagedCommunicatorTest, BuffersAreUsedAgain) {
  auto world = World(2);
  std::atomic<int> after_first = 0;
  OnAllRanks(2, [&](int rank) {
    const Buffer buffer(100'000, device_);
    for (int round = 0; round < 20; ++round) {
      if (rank == 0) {
        world[0]->Send(1, 1, Span(buffer).first(static_cast<size_t>(70'000 + round)))->Wait();
      } else {
        world[1]->Receive(0, 1, Span(buffer).first(static_cast<size_t>(70'000 + round)))->Wait();
      }
      world[rank]->Barrier("round");
      if (round == 0) after_first = staging_.allocations.load();
      world[rank]->Barrier("counted");
    }
  });
  EXPECT_EQ(staging_.allocations, after_first);
}

}  // namespace
}  // namespace sluice::comm
