#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "comm/nccl/nccl_plane.h"
#include "comm/nccl/nccl_test_support.h"

// What needs no second GPU: messages of the hosts, which travel over the mesh, and a rank that is alone.
namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class NcclOneGpuTest : public ::testing::TestWithParam<int> {
 protected:
  // Both ranks on one GPU, which NCCL itself would refuse; none of its communicators is made for messages.
  static NcclRanks Two(Duration timeout = kLong) {
    NcclRanks world(2);
    LocalStore store;
    OnAllRanks(2, [&](int rank) { world[rank] = MakeNcclWorld(rank, 2, store, kLoopback, {}, timeout); });
    return world;
  }
};

TEST_P(NcclOneGpuTest, MessagesFindTheirReceivesInAnyOrder) {
  constexpr int kTags = 8;
  auto world = Two();
  OnAllRanks(2, [&](int rank) {
    std::vector<std::vector<std::byte>> in(kTags, std::vector<std::byte>(1000));
    std::vector<std::unique_ptr<Transfer>> transfers;
    for (int i = 0; i < kTags; ++i) {
      const int send_tag = (i * 5 + 2) % kTags;
      const int receive_tag = kTags - 1 - i;
      // The bytes have left when Send returns.
      transfers.push_back(
          world[rank]->Send(1 - rank, static_cast<uint64_t>(send_tag), Part(rank, send_tag, 1000)));
      transfers.push_back(
          world[rank]->Receive(1 - rank, static_cast<uint64_t>(receive_tag), in[receive_tag]));
    }
    for (auto& transfer : transfers) transfer->Wait();
    for (int tag = 0; tag < kTags; ++tag) ASSERT_EQ(in[tag], Part(1 - rank, tag, 1000));
    EXPECT_EQ(world[rank]->bytes_sent(), kTags * 1000);
    world[rank]->Barrier("end");
  });
}

TEST_P(NcclOneGpuTest, MessagesOfOneTagComeInOrderAndGroupsDoNotMix) {
  auto world = Two();
  OnAllRanks(2, [&](int rank) {
    const auto group = world[rank]->Subgroup(std::vector{0, 1});
    if (rank == 0) {
      for (int i = 0; i < 10; ++i) {
        world[0]->Send(1, 7, Part(0, i, 64))->Wait();
        group->Send(1, 7, Part(1, i, 64))->Wait();
      }
    } else {
      for (int i = 0; i < 10; ++i) {
        std::vector<std::byte> of_group(64), of_world(64);
        group->Receive(0, 7, of_group)->Wait();
        world[1]->Receive(0, 7, of_world)->Wait();
        ASSERT_EQ(of_group, Part(1, i, 64));
        ASSERT_EQ(of_world, Part(0, i, 64));
      }
    }
    world[rank]->Barrier("end");
  });
}

TEST_P(NcclOneGpuTest, AMessageOfAnotherSizeEndsTheWorld) {
  auto world = Two();
  std::vector<std::byte> nine(9);
  world[0]->Send(1, 1, Part(0, 1, 8))->Wait();
  try {
    world[1]->Receive(0, 1, nine)->Wait();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.what(), HasSubstr("rank 0 sends 8 bytes of its host's memory and rank 1 expects 9"));
  }
}

TEST_P(NcclOneGpuTest, AMessageThatDoesNotComeIsNamedAndAbortEndsTheWait) {
  auto world = Two(milliseconds(300));
  std::vector<std::byte> buffer(8);
  EXPECT_THAT(LostSentence([&] { world[0]->Receive(1, 1, buffer)->Wait(); }),
              HasSubstr("rank 1 did not send 8 bytes within 300 ms"));
  auto other = Two();
  std::thread watchdog([&] {
    std::this_thread::sleep_for(milliseconds(50));
    other[0]->Abort("enough");
  });
  EXPECT_EQ(LostSentence([&] { other[0]->Receive(1, 1, buffer)->Wait(); }), "enough");
  watchdog.join();
  // It comes all the same, and finds nobody who waits: the buffer is not written any more.
  std::fill(buffer.begin(), buffer.end(), std::byte{0});
  EXPECT_EQ(LostSentence([&] { other[1]->Receive(0, 1, buffer)->Wait(); }), "enough");
}

TEST_P(NcclOneGpuTest, ARankAloneCopiesOnItsDeviceBehindTheFence) {
  LocalStore store;
  auto world = MakeNcclPlane(0, 1, store, kLoopback, 0, HostMemory(), kLong);
  EXPECT_EQ(&world->memory(), &HostMemory());
  EXPECT_EQ(world->sms_of_receives(), 0);
  int fences = 0;
  world->SetFence([&](const StreamMark*) { ++fences; });
  const DeviceBytes mine(0, Part(0, 0, 300));
  const DeviceBytes all(0, size_t{300});
  world->AllGather("gather", mine.span(), all.span(), std::vector<int64_t>{300});
  EXPECT_EQ(all.Get(), Part(0, 0, 300));
  const DeviceBytes other(0, size_t{300});
  const std::vector<std::span<const std::byte>> send = {mine.span()};
  const std::vector<std::span<std::byte>> receive = {other.span()};
  world->AllToAll("exchange", send, receive);
  EXPECT_EQ(other.Get(), Part(0, 0, 300));
  EXPECT_EQ(fences, 2);
  world->Subgroup(std::vector{0})->Barrier("alone");
}

std::vector<int> OneGpu() { return Gpus() < 1 ? std::vector<int>{} : std::vector<int>{1}; }

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(NcclOneGpuTest);
INSTANTIATE_TEST_SUITE_P(Gpus, NcclOneGpuTest, ::testing::ValuesIn(OneGpu()),
                         [](const auto&) { return std::string("1Gpu"); });

}  // namespace
}  // namespace sluice::comm
