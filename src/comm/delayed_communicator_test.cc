#include "comm/delayed_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/test_worlds.h"

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;

constexpr Duration kLong = std::chrono::seconds(20);
constexpr int kSends = 8;

// Receives kSends messages of 64 bytes from rank 0 and checks them.
void ReceiveAll(Communicator& world) {
  std::vector<std::vector<std::byte>> in(kSends, std::vector<std::byte>(64));
  std::vector<std::unique_ptr<Transfer>> receives;
  for (int i = 0; i < kSends; ++i) receives.push_back(world.Receive(0, static_cast<uint64_t>(i), in[i]));
  for (auto& receive : receives) receive->Wait();
  for (int i = 0; i < kSends; ++i) EXPECT_EQ(in[i], Part(0, i, 64));
}

TEST(DelayedTest, SendsInARowPayTheLatencyOnce) {
  auto world = MakeThreadWorld(2, kLong);
  world[0] = MakeDelayed(std::move(world[0]), milliseconds(100));
  double sending = 0;
  double arriving = 0;
  OnAllRanks(2, [&](int rank) {
    if (rank == 1) {
      arriving = SecondsOf([&] { ReceiveAll(*world[1]); });
      return;
    }
    std::vector<std::vector<std::byte>> out;
    std::vector<std::unique_ptr<Transfer>> sends;
    for (int i = 0; i < kSends; ++i) out.push_back(Part(0, i, 64));
    sending = SecondsOf([&] {
      for (int i = 0; i < kSends; ++i) sends.push_back(world[0]->Send(1, static_cast<uint64_t>(i), out[i]));
    });
    for (auto& send : sends) send->Wait();
  });
  EXPECT_LT(sending, 0.05) << "the sender is held up";
  EXPECT_GE(arriving, 0.095);
  EXPECT_LT(arriving, 0.195) << "the latency is paid more than once";
  EXPECT_EQ(world[0]->bytes_sent(), kSends * 64);
}

TEST(DelayedTest, ASenderThatWaitsPaysEachTime) {
  auto world = MakeThreadWorld(2, kLong);
  world[0] = MakeDelayed(std::move(world[0]), milliseconds(20));
  double arriving = 0;
  OnAllRanks(2, [&](int rank) {
    if (rank == 1) {
      arriving = SecondsOf([&] { ReceiveAll(*world[1]); });
      return;
    }
    for (int i = 0; i < kSends; ++i) {
      const auto out = Part(0, i, 64);
      world[0]->Send(1, static_cast<uint64_t>(i), out)->Wait();
    }
  });
  EXPECT_GE(arriving, 0.155);
}

TEST(DelayedTest, CollectivesAndSubgroupsPassAtOnce) {
  auto world = MakeThreadWorld(2, kLong);
  trace::Recorder recorder(0);
  for (auto& rank : world) rank = MakeDelayed(std::move(rank), milliseconds(500));
  world[0]->SetRecorder(&recorder);
  const double seconds = SecondsOf([&] {
    OnAllRanks(2, [&](int rank) {
      world[rank]->Barrier("world");
      const auto group = world[rank]->Subgroup(std::vector{0, 1});
      group->Barrier("group");
      std::vector<std::byte> byte(1);
      (rank == 0 ? group->Send(1, 1, byte) : group->Receive(0, 1, byte))->Wait();
    });
  });
  EXPECT_LT(seconds, 0.3);
  EXPECT_EQ(recorder.Spans().size(), 1U);
}

TEST(DelayedTest, AbortReachesWhatIsStillOnItsWay) {
  auto world = MakeThreadWorld(2, kLong);
  world[0] = MakeDelayed(std::move(world[0]), milliseconds(100));
  std::vector<std::byte> out(8);
  auto send = world[0]->Send(1, 1, out);
  world[0]->Abort("stop");
  EXPECT_EQ(LostSentence([&] { send->Wait(); }), "stop");
}

TEST(DelayedTest, DestroyedWithSendsOnTheWay) {
  auto world = MakeThreadWorld(2, milliseconds(200));
  world[0] = MakeDelayed(std::move(world[0]), milliseconds(20));
  std::vector<std::byte> out(8);
  auto send = world[0]->Send(1, 1, out);
  world[0].reset();
  EXPECT_THAT(LostSentence([&] { send->Wait(); }), ::testing::HasSubstr("rank 1"));
}

}  // namespace
}  // namespace sluice::comm
