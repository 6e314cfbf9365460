#include "comm/faulty_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/test_worlds.h"

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;

constexpr int kSends = 8;

Fault FaultOf(FaultAction action, int64_t step) {
  Fault fault;
  fault.rank = 0;
  fault.step = step;
  fault.action = action;
  return fault;
}

Fault Slow(Duration latency, int64_t bytes_per_second = 0) {
  Fault fault = FaultOf(FaultAction::kSlow, -1);
  fault.where = FaultWhere::kHop;
  fault.latency = latency;
  fault.bytes_per_second = bytes_per_second;
  fault.times = -1;
  return fault;
}

// A world of ranks whose rank 0 has `faults`; its recorder gives the step.
class FaultyWorld {
 public:
  explicit FaultyWorld(BackEnd back_end, std::vector<Fault> faults, Duration timeout = kLong, int size = 2)
      : ranks_(MakeWorld(back_end, size, timeout)) {
    auto injector = std::make_shared<FaultInjector>(FaultPlan{std::move(faults)}, 0, FaultInjector::Hands{});
    ranks_[0] = MakeFaulty(std::move(ranks_[0]), std::move(injector));
    ranks_[0]->SetRecorder(&recorder_);
    // Every rank takes the mesh, as every rank of a job with a plan does.
    for (int rank = 1; rank < size; ++rank) {
      ranks_[rank] = MakeFaulty(std::move(ranks_[rank]),
                                std::make_shared<FaultInjector>(FaultPlan{}, rank, FaultInjector::Hands{}));
    }
  }
  Communicator& operator[](int rank) { return *ranks_[rank]; }
  void End(int rank) { ranks_[rank].reset(); }
  void Step(int64_t step) { recorder_.SetPlace({step, 0, -1}); }

 private:
  trace::Recorder recorder_{0};
  std::vector<std::unique_ptr<Communicator>> ranks_;
};

// Receives kSends messages of 64 bytes from rank 0 and checks them.
void ReceiveAll(Communicator& world) {
  std::vector<std::vector<std::byte>> in(kSends, std::vector<std::byte>(64));
  std::vector<std::unique_ptr<Transfer>> receives;
  for (int i = 0; i < kSends; ++i) receives.push_back(world.Receive(0, static_cast<uint64_t>(i), in[i]));
  for (auto& receive : receives) receive->Wait();
  for (int i = 0; i < kSends; ++i) EXPECT_EQ(in[i], Part(0, i, 64)) << "message " << i;
}

// Sends them, each in the step of its number, and waits for the sends.
void SendAll(FaultyWorld& world) {
  std::vector<std::vector<std::byte>> out;
  std::vector<std::unique_ptr<Transfer>> sends;
  for (int i = 0; i < kSends; ++i) out.push_back(Part(0, i, 64));
  for (int i = 0; i < kSends; ++i) {
    world.Step(i);
    sends.push_back(world[0].Send(1, static_cast<uint64_t>(i), out[i]));
  }
  for (auto& send : sends) send->Wait();
}

class FaultyTest : public testing::TestWithParam<BackEnd> {};
INSTANTIATE_TEST_SUITE_P(BackEnds, FaultyTest, testing::Values(BackEnd::kThreads, BackEnd::kGloo),
                         [](const auto& suite) { return NameOf(suite.param); });

TEST_P(FaultyTest, ADelayedADoubledAndAnOvertakenMessageArriveAsTheyWere) {
  Fault late = FaultOf(FaultAction::kDelay, 2);
  late.delay = milliseconds(200);
  Fault overtaken = FaultOf(FaultAction::kReorder, 4);
  overtaken.delay = kLong;  // so that it is the next message that lets it go
  FaultyWorld world(GetParam(), {late, FaultOf(FaultAction::kDuplicate, 3), overtaken});
  double arriving = 0;
  OnAllRanks(2, [&](int rank) {
    if (rank == 0) SendAll(world);
    if (rank == 1) arriving = SecondsOf([&] { ReceiveAll(world[1]); });
  });
  EXPECT_GE(arriving, 0.195);
  EXPECT_LT(arriving, 10.0) << "the overtaken message was held to the end";
}

TEST_P(FaultyTest, ADroppedMessageNeverArrivesAndTheOthersDo) {
  FaultyWorld world(GetParam(), {FaultOf(FaultAction::kDrop, 3)}, milliseconds(1500));
  OnAllRanks(2, [&](int rank) {
    if (rank == 0) return SendAll(world);
    std::vector<std::vector<std::byte>> in(kSends, std::vector<std::byte>(64));
    std::vector<std::unique_ptr<Transfer>> receives;
    for (int i = 0; i < kSends; ++i) receives.push_back(world[1].Receive(0, static_cast<uint64_t>(i), in[i]));
    for (int i = 0; i < kSends; ++i) {
      if (i != 3) receives[i]->Wait();
    }
    EXPECT_THAT(LostSentence([&] { receives[3]->Wait(); }),
                testing::HasSubstr("rank 0 did not send 64 bytes within 1500 ms"));
  });
}

TEST_P(FaultyTest, ACorruptMessageDiffersInOneBit) {
  FaultyWorld world(GetParam(), {FaultOf(FaultAction::kCorrupt, 5)});
  std::vector<std::byte> in(64);
  OnAllRanks(2, [&](int rank) {
    world.Step(5);
    if (rank == 0) world[0].Send(1, 9, Part(0, 1, 64))->Wait();
    if (rank == 1) world[1].Receive(0, 9, in)->Wait();
  });
  std::vector<std::byte> expected = Part(0, 1, 64);
  expected[32] ^= std::byte{1};
  EXPECT_EQ(in, expected);
}

TEST_P(FaultyTest, CollectivesAndGroupsAreStruckToo) {
  Fault late = FaultOf(FaultAction::kDelay, 1);
  late.where = FaultWhere::kCollective;
  late.delay = milliseconds(200);
  FaultyWorld world(GetParam(), {late});
  world.Step(1);
  const double took = SecondsOf([&] {
    OnAllRanks(2, [&](int rank) {
      const auto group = world[rank].Subgroup(std::vector{0, 1});
      group->SetRecorder(world[rank].recorder());
      group->Barrier("group");
    });
  });
  EXPECT_GE(took, 0.195);
  EXPECT_LT(SecondsOf([&] { OnAllRanks(2, [&](int rank) { world[rank].Barrier("world"); }); }), 0.195)
      << "once means once";
}

TEST_P(FaultyTest, OnlyTheChosenPeerIsStruck) {
  Fault drop = FaultOf(FaultAction::kDrop, 1);
  drop.peer = 2;
  FaultyWorld world(GetParam(), {drop}, milliseconds(1500), 3);
  world.Step(1);
  OnAllRanks(3, [&](int rank) {
    std::vector<std::byte> byte(1);
    if (rank == 0) {
      world[0].Send(1, 7, byte)->Wait();
      world[0].Send(2, 7, byte)->Wait();
    } else if (rank == 1) {
      world[1].Receive(0, 7, byte)->Wait();
    } else {
      LostSentence([&] { world[2].Receive(0, 7, byte)->Wait(); });
    }
  });
}

TEST(SlowLink, SendsInARowPayTheLatencyOnce) {
  FaultyWorld world(BackEnd::kThreads, {Slow(milliseconds(100))});
  double sending = 0;
  double arriving = 0;
  OnAllRanks(2, [&](int rank) {
    if (rank == 1) {
      arriving = SecondsOf([&] { ReceiveAll(world[1]); });
      return;
    }
    std::vector<std::vector<std::byte>> out;
    std::vector<std::unique_ptr<Transfer>> sends;
    for (int i = 0; i < kSends; ++i) out.push_back(Part(0, i, 64));
    sending = SecondsOf([&] {
      for (int i = 0; i < kSends; ++i) sends.push_back(world[0].Send(1, static_cast<uint64_t>(i), out[i]));
    });
    for (auto& send : sends) send->Wait();
  });
  EXPECT_LT(sending, 0.05) << "the sender is held up";
  EXPECT_GE(arriving, 0.095);
  EXPECT_LT(arriving, 0.195) << "the latency is paid more than once";
  EXPECT_EQ(world[0].bytes_sent(), kSends * 64);
}

TEST(SlowLink, ASenderThatWaitsPaysEachTime) {
  FaultyWorld world(BackEnd::kThreads, {Slow(milliseconds(20))});
  double arriving = 0;
  OnAllRanks(2, [&](int rank) {
    if (rank == 1) {
      arriving = SecondsOf([&] { ReceiveAll(world[1]); });
      return;
    }
    for (int i = 0; i < kSends; ++i) {
      const auto out = Part(0, i, 64);
      world[0].Send(1, static_cast<uint64_t>(i), out)->Wait();
    }
  });
  EXPECT_GE(arriving, 0.155);
}

TEST(SlowLink, BandwidthIsSharedByTheSendsInARow) {
  FaultyWorld world(BackEnd::kThreads, {Slow(Duration(0), 64 * 20)});  // 50 ms for each message
  double arriving = 0;
  OnAllRanks(2, [&](int rank) {
    if (rank == 0) SendAll(world);
    if (rank == 1) arriving = SecondsOf([&] { ReceiveAll(world[1]); });
  });
  EXPECT_GE(arriving, 0.395);
}

TEST(SlowLink, ALinkForHopsLeavesCollectivesAlone) {
  FaultyWorld world(BackEnd::kThreads, {Slow(kLong)});
  EXPECT_LT(SecondsOf([&] { OnAllRanks(2, [&](int rank) { world[rank].Barrier("world"); }); }), 10.0);
}

TEST(SlowLink, AbortReachesWhatIsStillOnItsWay) {
  FaultyWorld world(BackEnd::kThreads, {Slow(kLong)});
  std::vector<std::byte> out(8);
  auto send = world[0].Send(1, 1, out);
  world[0].Abort("stop");
  double took = SecondsOf([&] { EXPECT_EQ(LostSentence([&] { send->Wait(); }), "stop"); });
  EXPECT_LT(took, 10.0) << "an abort waits for the link";
}

TEST(SlowLink, DestroyedWithSendsOnTheWay) {
  FaultyWorld world(BackEnd::kThreads, {Slow(milliseconds(20))}, milliseconds(200));
  std::vector<std::byte> out(8);
  auto send = world[0].Send(1, 1, out);
  world.End(0);
  EXPECT_THAT(LostSentence([&] { send->Wait(); }), ::testing::HasSubstr("rank 1"));
}

TEST(FaultInjector, ARankClosesEndsAndStopsWhereThePlanSays) {
  std::string done;
  Fault die = FaultOf(FaultAction::kDie, 2);
  Fault stop = FaultOf(FaultAction::kStop, 4);
  stop.where = FaultWhere::kHop;
  Fault close = FaultOf(FaultAction::kClose, 5);
  close.where = FaultWhere::kControl;
  Fault idle = FaultOf(FaultAction::kDie, 6);
  idle.phase = FaultPhase::kIdle;
  Fault elsewhere = FaultOf(FaultAction::kDie, 1);
  elsewhere.rank = 1;
  FaultInjector injector(FaultPlan{{die, stop, close, idle, elsewhere, FaultOf(FaultAction::kClose, 7)}}, 0,
                         {[&] { done += "die "; }, [&] { done += "stop "; }, [&] { done += "close "; }});
  const auto step = [&](int64_t number) {
    injector.AtPass(number);
    injector.BeforeSend(FaultWhere::kHop, number);
    return std::exchange(done, "");
  };
  EXPECT_EQ(step(1), "");
  EXPECT_EQ(step(2), "die ");
  EXPECT_EQ(step(2), "") << "once means once";
  EXPECT_EQ(step(4), "stop ");
  EXPECT_EQ(step(5), "close ");
  injector.WhileIdle(5, kLong);
  injector.WhileIdle(6, milliseconds(1));
  EXPECT_EQ(done, "");
  injector.WhileIdle(6, kLong);
  EXPECT_EQ(done, "die ");
  try {
    step(7);
    FAIL() << "the data connections were not closed";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNetwork) << "a rank that closes is no witness of a loss";
    EXPECT_THAT(error.what(), testing::HasSubstr("rank 0 in step 7"));
  }
}

}  // namespace
}  // namespace sluice::comm
