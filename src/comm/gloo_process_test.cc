#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <exception>

#include "base/error.h"
#include "comm/gloo_world.h"
#include "comm/rendezvous.h"
#include "comm/test_worlds.h"

// Ranks in processes of their own: joined by the rendezvous, connected by gloo, and one of them killed.
namespace sluice::comm {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr int kProcesses = 4;
constexpr uint16_t kRunning = 1;
constexpr uint16_t kFailed = 2;
const JobSecret kSecret = JobSecret::Random();

// The life of a rank's process: gathers for ever and tells the controller how that ended.
void RankProcess(const Address& controller, int rank) {
  auto channel = Join(controller, {rank, kProcesses, "b", "j"}, kSecret, seconds(10));
  std::unique_ptr<Communicator> world;
  {
    JoinedStore store(*channel);
    world = MakeGlooWorld(rank, kProcesses, store, kLoopback, seconds(10));
  }
  SayConnected(*channel);
  const std::vector<int64_t> sizes(kProcesses, 1000);
  std::vector<std::byte> all(kProcesses * 1000);
  try {
    for (int round = 0;; ++round) {
      world->AllGather("gather", Part(rank, round, 1000), all, sizes);
      for (int from = 0; from < kProcesses; ++from) {
        const auto part = Part(from, round, 1000);
        if (!std::equal(part.begin(), part.end(), all.begin() + from * 1000)) _exit(3);
      }
      if (round == 20) channel->Send({kRunning, 0, 0, {}});
    }
  } catch (const Error& error) {
    const std::string sentence = error.what();
    const auto bytes = std::as_bytes(std::span(sentence));
    channel->Send({kFailed, static_cast<uint64_t>(error.kind()), 0, {bytes.begin(), bytes.end()}});
  }
  channel->Receive(seconds(10));
}

// Starts the ranks, kills one, and returns how long it took until all others had named it.
Duration NamingOfTheKilledRank() {
  Rendezvous rendezvous(
      ParseAddress(fmt::format("unix:{}sluice_gloo_{}.sock", ::testing::TempDir(), getpid())),
      {-1, kProcesses, "b", "j"}, kSecret);
  std::vector<pid_t> children;
  for (int rank = 0; rank < kProcesses; ++rank) {
    const pid_t child = fork();
    SLUICE_CHECK(child >= 0, "no process for rank {}", rank);
    if (child == 0) {
      try {
        RankProcess(rendezvous.address(), rank);
      } catch (const std::exception&) {
        _exit(2);
      }
      _exit(0);
    }
    children.push_back(child);
  }
  const auto channels = rendezvous.Accept(seconds(20));
  for (const auto& channel : channels) EXPECT_EQ(channel->Receive(seconds(10))->type, kRunning);

  kill(children[2], SIGKILL);
  const auto killed = Clock::now();
  for (const int rank : {0, 1, 3}) {
    const auto frame = channels[rank]->Receive(seconds(20));
    if (!frame.has_value()) {
      ADD_FAILURE() << "rank " << rank << " said nothing";
      continue;
    }
    EXPECT_EQ(frame->type, kFailed);
    EXPECT_EQ(frame->step, static_cast<uint64_t>(ErrorKind::kRankLost));
    const std::string sentence(reinterpret_cast<const char*>(frame->payload.data()), frame->payload.size());
    // Also a survivor that saw another one give up before it noticed by itself.
    EXPECT_THAT(sentence, HasSubstr("lost its data connection to rank 2"));
  }
  const Duration took = Clock::now() - killed;
  // The controller's own connection tells it as well.
  LostSentence([&] { channels[2]->Receive(seconds(5)); });
  for (const auto& channel : channels) channel->Close();
  for (size_t rank = 0; rank < children.size(); ++rank) {
    int status = 0;
    EXPECT_EQ(waitpid(children[rank], &status, 0), children[rank]);
    EXPECT_EQ(WIFSIGNALED(status), rank == 2);
  }
  return took;
}

TEST(GlooProcessTest, SurvivorsNameTheKilledRankWithinASecond) {
  // The quickest of a few: a busy host holds up any one of them.
  Duration quickest = NamingOfTheKilledRank();
  for (int again = 0; again < 4; ++again) quickest = std::min(quickest, NamingOfTheKilledRank());
  EXPECT_LT(quickest, seconds(1));
}

}  // namespace
}  // namespace sluice::comm
