#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <thread>

#include "comm/nccl/nccl_test_support.h"

// Waits that do not end well, between two GPUs: every one ends with the sentence that names the other rank,
// on every rank, and leaves the device free.
namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

class NcclFaultTest : public ::testing::TestWithParam<int> {};

TEST_P(NcclFaultTest, TimeOutsNameThePeerEverywhere) {
  auto world = MakeNcclRanks(2, milliseconds(300));
  const DeviceBytes buffer(1, 8);
  std::string sentence;
  const double waited =
      SecondsOf([&] { sentence = LostSentence([&] { world[1]->Receive(0, 1, buffer.span())->Wait(); }); });
  EXPECT_EQ(sentence, "rank 0 did not send 8 bytes within 300 ms; rank 1 has stopped waiting");
  EXPECT_GE(waited, 0.29);
  EXPECT_LT(waited, 2.0);
  // Spent: the next wait ends at once with the same sentence, on the other rank too.
  EXPECT_LT(SecondsOf([&] {
              EXPECT_EQ(LostSentence([&] { world[1]->Send(0, 1, buffer.span())->Wait(); }), sentence);
              EXPECT_EQ(LostSentence([&] { world[0]->Barrier("later"); }), sentence);
            }),
            0.25);
}

TEST_P(NcclFaultTest, ACollectiveNamesWhoDidNotCome) {
  auto world = MakeNcclRanks(2, milliseconds(300));
  const DeviceBytes mine(0, 8);
  const DeviceBytes all(0, 16);
  EXPECT_EQ(LostSentence([&] {
              world[0]->AllGather("gather latents", mine.span(), all.span(), std::vector<int64_t>{8, 8});
            }),
            "rank 1 did not come to \"gather latents\" within 300 ms; rank 0 has stopped waiting");
}

TEST_P(NcclFaultTest, AbortEndsWaitsNowAndLaterOnBothRanks) {
  auto world = MakeNcclRanks(2, kLong);
  const DeviceBytes buffer(0, 8);
  const DeviceBytes other(1, 8);
  std::thread there([&] {
    EXPECT_EQ(LostSentence([&] { world[1]->Receive(0, 2, other.span())->Wait(); }), "rank 1 stands still");
  });
  std::thread watchdog([&] {
    std::this_thread::sleep_for(milliseconds(100));
    world[0]->Abort("rank 1 stands still");
    world[0]->Abort("a second opinion");
  });
  EXPECT_LT(SecondsOf([&] {
              EXPECT_EQ(LostSentence([&] { world[0]->Receive(1, 1, buffer.span())->Wait(); }),
                        "rank 1 stands still");
            }),
            2.0);
  watchdog.join();
  there.join();
  EXPECT_EQ(LostSentence([&] { world[0]->Barrier("later"); }), "rank 1 stands still");
}

TEST_P(NcclFaultTest, ARankThatIsGoneEndsTheWaitsForIt) {
  auto world = MakeNcclRanks(2, kLong);
  const DeviceBytes buffer(0, 8);
  std::thread leaver([&] {
    std::this_thread::sleep_for(milliseconds(100));
    world[1].reset();
  });
  std::string sentence;
  const double waited =
      SecondsOf([&] { sentence = LostSentence([&] { world[0]->Receive(1, 1, buffer.span())->Wait(); }); });
  leaver.join();
  EXPECT_EQ(sentence, "rank 1 has ended and will not send the 8 bytes that rank 0 waits for");
  EXPECT_LT(waited, 2.0);
}

TEST_P(NcclFaultTest, SizesThatDisagreeEndTheWorld) {
  auto world = MakeNcclRanks(2, kLong);
  const DeviceBytes eight(0, 8);
  const DeviceBytes nine(1, 9);
  const auto ends = [](const std::function<void()>& wait) {
    try {
      wait();
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInternal);
      EXPECT_THAT(error.what(), HasSubstr("rank 0 sends 8 bytes and rank 1 expects 9"));
    }
  };
  OnAllRanks(2, [&](int rank) {
    const auto transfer =
        rank == 0 ? world[0]->Send(1, 1, eight.span()) : world[1]->Receive(0, 1, nine.span());
    ends([&] { transfer->Wait(); });
  });
}

// What this thread has computed so far: waits sleep.
double CpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// The stream's form launches without the peer: its kernel is on the device and waits there. Aborted or too
// late, it must go.
void KernelThatWaits(Duration timeout, bool abort, const std::string& expected) {
  auto world = MakeNcclRanks(2, timeout);
  const DeviceBytes buffer(0, 1 << 20);
  OnAllRanks(2, [&](int rank) { world[rank]->ConnectTransfers(); });
  const DeviceScope scope(0);
  const DeviceStream stream;
  const auto event = world[0]->EnqueueReceive(buffer.span(), stream.get());
  EXPECT_EQ(cudaStreamQuery(stream.get()), cudaErrorNotReady);
  std::thread watchdog([&] {
    std::this_thread::sleep_for(milliseconds(100));
    if (abort) world[0]->Abort(expected);
  });
  const double busy = CpuSeconds();
  const double waited = SecondsOf(
      [&] { EXPECT_EQ(LostSentence([&] { world[0]->Await("receive hidden", event); }), expected); });
  EXPECT_LT(CpuSeconds() - busy, 0.02 + 0.1 * waited) << "of " << waited << " s";
  watchdog.join();
  EXPECT_TRUE(Drains(stream.get()));
}

TEST_P(NcclFaultTest, AKernelThatWaitsEndsByAbort) { KernelThatWaits(kLong, true, "rank 1 stands still"); }

TEST_P(NcclFaultTest, AKernelThatWaitsEndsByTimeOut) {
  KernelThatWaits(milliseconds(1500), false,
                  "rank 1 did not come to \"receive hidden\" within 1500 ms; rank 0 has stopped waiting");
}

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
// Copy engines wait on the stream itself, where nothing can be told to stop: the verdict comes in time, and
// the process, here one of the test's own, can only end as a whole.
TEST_P(NcclFaultTest, ACopyEngineThatWaitsIsNamedInTime) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto rank_process = [] {
    auto world = MakeNcclRanks(2, milliseconds(3000), {.zero_cta = true});
    std::vector<std::unique_ptr<NcclMemory>> all(2);
    std::vector<std::unique_ptr<NcclWindow>> windows(2);
    const std::vector<int64_t> equal = {4096, 4096};
    const auto mine = [&](int rank) {
      return all[rank]->bytes().subspan(4096 * static_cast<size_t>(rank), 4096);
    };
    OnAllRanks(2, [&](int rank) {
      const DeviceScope scope(rank);
      all[rank] = std::make_unique<NcclMemory>(8192);
      windows[rank] = world[rank]->RegisterWindow(all[rank]->bytes());
      world[rank]->AllGather("first", mine(rank), all[rank]->bytes(), equal);
    });
    const DeviceScope scope(0);
    const DeviceStream stream;
    const auto event = world[0]->EnqueueAllGather(mine(0), all[0]->bytes(), equal, stream.get());
    fmt::print(stderr, "{}\n", LostSentence([&] { world[0]->Await("gather", event); }));
    _exit(0);
  };
  EXPECT_EXIT(rank_process(), ::testing::ExitedWithCode(0),
              "rank 1 did not come to \"gather\" within 3000 ms; rank 0 has stopped waiting");
}
#endif

// The group's communicator needs both ranks, and NCCL would wait for the second one for ever.
TEST_P(NcclFaultTest, AGroupThatOneRankDoesNotMakeIsTooLate) {
  auto world = MakeNcclRanks(2, milliseconds(500));
  EXPECT_EQ(LostSentence([&] { world[1]->Connect(); }),
            "rank 0 did not begin its NCCL group with rank 1 within 500 ms; rank 1 has stopped waiting");
  auto second = MakeNcclRanks(2, milliseconds(500));
  const DeviceBytes mine(0, 8);
  const DeviceBytes all(0, 16);
  const DeviceScope scope(0);
  const DeviceStream stream;
  EXPECT_EQ(LostSentence([&] {
              second[0]->EnqueueAllGather(mine.span(), all.span(), std::vector<int64_t>{8, 8}, stream.get());
            }),
            "rank 1 did not come to \"connect\" within 500 ms; rank 0 has stopped waiting");
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(NcclFaultTest);
INSTANTIATE_TEST_SUITE_P(Gpus, NcclFaultTest, ::testing::ValuesIn(TwoGpus()),
                         [](const auto&) { return std::string("2Gpus"); });

}  // namespace
}  // namespace sluice::comm
