#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "layout_world.h"

// A rank process that dies or stops in mid-prefill is named in one sentence, soon, and nothing is left
// behind.
namespace sluice::layouts {
namespace {

struct Fault {
  int signal;
  int rank;
  const char* says;
};

class RankFaults : public testing::TestWithParam<Fault> {};

TEST_P(RankFaults, TheGuiltyRankIsNamed) {
  const Fault& fault = GetParam();
  engine::JobSettings settings = SettingsOf({2, 2, parallel::SplitMode::kInterleave, 16});
  settings.wait_limit = std::chrono::seconds(2);
  engine::ProcessPlan plan;
  plan.program = SLUICE_PROGRAM;
  auto ranks = engine::StartProcessRanks(settings, TestCheckpoint(false)->fingerprint(), plan);
  std::vector<int> pids;
  for (int rank = 0; rank < 4; ++rank) pids.push_back(ranks->ProcessId(rank));
  int64_t fault_ns = 0;
  {
    engine::OfflineRunner runner(settings, 16, 8, std::move(ranks));
    engine::OfflineRequest request = PromptSets(TestCheckpoint(false)->config().vocab_size)[2].front();
    request.prompt.resize(2000, 7);
    request.return_logits = false;
    std::thread saboteur([&] {
      while (runner.job().States()[fault.rank].heartbeat.rows_computed == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      fault_ns = NowNs();
      kill(pids[fault.rank], fault.signal);
    });
    std::string sentence;
    try {
      runner.Run({request});
    } catch (const Error& error) {
      sentence = error.what();
      EXPECT_EQ(error.kind(), ErrorKind::kRankLost);
    }
    const int64_t named_ns = NowNs();
    saboteur.join();
    const double seconds = static_cast<double>(named_ns - fault_ns) / 1e9;
    EXPECT_THAT(sentence, testing::StartsWith(fmt::format("rank {} (stage {}, lane {})", fault.rank,
                                                          fault.rank / 2, fault.rank % 2)));
    EXPECT_THAT(sentence, testing::HasSubstr(fault.says));
    EXPECT_LT(seconds, 5.0) << sentence;
  }
  for (const int pid : pids) EXPECT_NE(kill(pid, 0), 0) << "process " << pid << " is left";
}

INSTANTIATE_TEST_SUITE_P(Signals, RankFaults,
                         testing::Values(Fault{SIGKILL, 0, "killed by signal 9"},
                                         Fault{SIGKILL, 3, "killed by signal 9"},
                                         Fault{SIGSTOP, 2, "has not been heard of"}),
                         [](const auto& suite) {
                           return fmt::format("signal{}_rank{}", suite.param.signal, suite.param.rank);
                         });

}  // namespace
}  // namespace sluice::layouts
