#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/nccl/nccl_test_support.h"
#include "comm/rendezvous.h"

// Ranks in processes of their own, which stand beside this test: one of them is killed or stopped in the
// middle of its collectives, and the others name it.
namespace sluice::comm {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr uint16_t kRunning = 1;
constexpr uint16_t kFailed = 2;

std::string RankProgram() {
  std::vector<char> path(PATH_MAX);
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  SLUICE_CHECK(length > 0, "no /proc/self/exe");
  return std::string(dirname(path.data())) + "/nccl_rank_process";
}

class NcclProcessTest : public ::testing::TestWithParam<int> {
 protected:
  static constexpr int kSize = 2;

  void Start(int limit_ms) {
    rendezvous_ = std::make_unique<Rendezvous>(
        ParseAddress(fmt::format("unix:{}sluice_nccl_{}.sock", ::testing::TempDir(), getpid())),
        Hello{-1, kSize, "b", "j"}, secret_);
    ASSERT_EQ(putenv(secret_entry_.data()), 0);
    const std::string program = RankProgram();
    const std::string address = rendezvous_->address().ToString();
    for (int rank = 0; rank < kSize; ++rank) {
      std::vector<std::string> words = {program, address, std::to_string(rank), std::to_string(kSize),
                                        std::to_string(limit_ms)};
      std::vector<char*> arguments;
      arguments.reserve(words.size() + 1);
      for (std::string& word : words) arguments.push_back(word.data());
      arguments.push_back(nullptr);
      pid_t child = -1;
      ASSERT_EQ(posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments.data(), environ), 0)
          << program;
      children_.push_back(child);
    }
    channels_ = rendezvous_->Accept(seconds(60));
    for (const auto& channel : channels_) EXPECT_EQ(channel->Receive(seconds(60))->type, kRunning);
  }

  std::string SentenceOf(int rank) {
    const auto frame = channels_[rank]->Receive(seconds(20));
    if (!frame.has_value()) return "nothing came";
    EXPECT_EQ(frame->type, kFailed);
    EXPECT_EQ(frame->step, static_cast<uint64_t>(ErrorKind::kRankLost));
    return {reinterpret_cast<const char*>(frame->payload.data()), frame->payload.size()};
  }

  void TearDown() override {
    for (const auto& channel : channels_) channel->Close();
    for (const pid_t child : children_) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
    }
  }

  static inline const JobSecret secret_ = JobSecret::Random();
  static inline std::string secret_entry_ = secret_.EnvironmentEntry();  // belongs to the environment
  std::unique_ptr<Rendezvous> rendezvous_;
  std::vector<pid_t> children_;
  std::vector<std::unique_ptr<Channel>> channels_;
};

TEST_P(NcclProcessTest, TheSurvivorNamesTheKilledRankWithinASecond) {
  Start(20'000);
  kill(children_[1], SIGKILL);
  const auto killed = Clock::now();
  EXPECT_THAT(SentenceOf(0), HasSubstr("rank 0 lost its data connection to rank 1"));
  EXPECT_LT(Clock::now() - killed, seconds(1));
}

TEST_P(NcclProcessTest, ARankThatIsStoppedIsNamedAfterTheLimit) {
  Start(2'000);
  kill(children_[1], SIGSTOP);
  const auto stopped = Clock::now();
  const std::string sentence = SentenceOf(0);
  EXPECT_LT(Clock::now() - stopped, seconds(5));
  // Stopped before it came to a collective, or inside of one that both had begun.
  EXPECT_THAT(sentence, ::testing::AnyOf(
                            HasSubstr("rank 1 did not come to \"gather\" within 2000 ms"),
                            HasSubstr("rank 1 does not answer, and \"gather\" did not end within 2000 ms")));
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(NcclProcessTest);
INSTANTIATE_TEST_SUITE_P(Gpus, NcclProcessTest, ::testing::ValuesIn(TwoGpus()),
                         [](const auto&) { return std::string("2Gpus"); });

}  // namespace
}  // namespace sluice::comm
