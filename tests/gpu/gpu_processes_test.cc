#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "comm/nccl/nccl_plane.h"
#include "engine/rank_set.h"
#include "gpu_run.h"
#include "ops/cuda/device.h"

// Ranks as processes on GPUs, with graphs, give the bits of one rank in one process without, whatever carries
// their rows; a rank that dies is named, and one that finds no memory leaves no other behind.
namespace sluice::gpu {
namespace {

using engine::DataPlane;
using engine::HopReceive;
using testing::HasSubstr;

constexpr const char* kModel =
    "random:tiny?dtype=fp8&layers=5&hidden=512&heads=8&index_heads=32&topk=128&experts=12&n_group=2&topk_"
    "group=1&seed=9";
constexpr int64_t kVocabulary = 1024;
constexpr int64_t kRows = 96;  // of a step

// The program beside this one, as tools/gpu_check packs it, or the one that was built with it.
std::string SluiceProgram() {
  const auto beside = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "sluice";
  return std::filesystem::exists(beside) ? beside.string() : SLUICE_PROGRAM;
}

// NCCL refuses two ranks that are on one GPU of one host. To ranks that call their hosts by different names
// it is GPUs of several hosts, between which it moves everything over sockets.
std::string ProgramOnHostsOfItsOwn() {
  const std::string path = testing::TempDir() + "sluice_on_a_host_of_its_own";
  std::ofstream(path) << "#!/bin/sh\nexport NCCL_HOSTID=rank-$$ NCCL_NET=Socket NCCL_NVLS_ENABLE=0\nexec \""
                      << SluiceProgram() << "\" \"$@\"\n";
  chmod(path.c_str(), 0700);
  return path;
}

struct Processes {
  const char* name;
  int stages;
  int lanes;
  DataPlane plane;
  int gpu_step;  // 0: one GPU for all
  int attn_tp = 1;
  HopReceive hop = HopReceive::kPlane;
};
void PrintTo(const Processes& at, std::ostream* out) { *out << at.name; }

std::unique_ptr<engine::RankSet> Start(const Processes& at, engine::JobSettings settings,
                                       const checkpoint::Checkpoint& checkpoint) {
  settings.gpu_step = at.gpu_step;
  settings.data_plane = at.plane;
  settings.hop_receive = at.hop;
  // As a server: a rank takes all its memory while it starts. NCCL's transfers do not go with taking more
  // later.
  settings.largest_step = {kRows, 64, 1024};
  engine::ProcessPlan plan;
  const bool one_gpu = at.gpu_step == 0 && settings.grid.world() > 1;
  plan.program = at.plane == DataPlane::kNccl && one_gpu ? ProgramOnHostsOfItsOwn() : SluiceProgram();
  return engine::StartProcessRanks(settings, checkpoint.fingerprint(), plan);
}

std::vector<std::vector<int32_t>> Prompts() {
  return {Prompt(1, 1, kVocabulary), Prompt(301, 3, kVocabulary), Prompt(130, 4, kVocabulary)};
}

GpuRun RunOf(const Processes& at) {
  GpuRun run{kModel};
  run.stages = at.stages;
  run.lanes = at.lanes;
  run.attn_tp = at.attn_tp;
  run.chunk = kRows;
  return run;
}

void SkipWithout(DataPlane plane) {
  try {
    if (plane == DataPlane::kNccl) comm::CheckNccl();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
}

class GpuProcessesTest : public testing::TestWithParam<Processes> {
 protected:
  void SetUp() override {
    if (!HasHopper()) GTEST_SKIP() << "no Hopper GPU";
    SkipWithout(GetParam().plane);
    if (IsSkipped()) return;
    const int wanted = 1 + GetParam().gpu_step * (GetParam().stages * GetParam().lanes - 1);
    if (ops::cuda::Devices() < wanted) {
      GTEST_SKIP() << wanted << " GPUs are wanted, and there are " << ops::cuda::Devices();
    }
  }
};

TEST_P(GpuProcessesTest, GiveTheBitsOfOneRank) {
  GpuRun alone = RunOf(GetParam());
  alone.stages = alone.lanes = alone.attn_tp = 1;
  if (GetParam().attn_tp > 1) {  // its sums have an order of their own, that of as many ranks as threads
    alone = RunOf(GetParam());
  }
  GpuRun run = RunOf(GetParam());
  run.start = [](const engine::JobSettings& settings, const checkpoint::Checkpoint& checkpoint) {
    return Start(GetParam(), settings, checkpoint);
  };
  run.graph_rows = {1, 2, 3};
  const std::vector<Answer> expected = RunPrompts(alone, Prompts(), 12);
  const std::vector<Answer> answers = RunPrompts(run, Prompts(), 12);
  ASSERT_EQ(answers.size(), expected.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].tokens, expected[i].tokens) << "prompt " << i;
    ASSERT_EQ(answers[i].logits.size(), expected[i].logits.size());
    EXPECT_EQ(std::memcmp(answers[i].logits.data(), expected[i].logits.data(),
                          answers[i].logits.size() * sizeof(float)),
              0)
        << "prompt " << i;
    EXPECT_TRUE(answers[i].replicas_agree) << "prompt " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, GpuProcessesTest,
    testing::Values(Processes{"pp2_cp2_one_gpu_host", 2, 2, DataPlane::kHost, 0},
                    Processes{"cp2_atp2_one_gpu_host", 1, 4, DataPlane::kHost, 0, 2},
                    Processes{"one_rank_nccl", 1, 1, DataPlane::kNccl, 0},
                    Processes{"pp2_one_gpu_nccl", 2, 1, DataPlane::kNccl, 0},
                    Processes{"cp2_one_gpu_nccl", 1, 2, DataPlane::kNccl, 0},
                    Processes{"pp2_cp2_one_gpu_nccl", 2, 2, DataPlane::kNccl, 0},
                    Processes{"pp2_two_gpus_nccl", 2, 1, DataPlane::kNccl, 1},
                    Processes{"cp2_two_gpus_nccl", 1, 2, DataPlane::kNccl, 1},
                    Processes{"cp2_two_gpus_host", 1, 2, DataPlane::kHost, 1},
                    Processes{"pp2_cp2_four_gpus_nccl", 2, 2, DataPlane::kNccl, 1},
                    Processes{"pp2_one_gpu_copies", 2, 1, DataPlane::kHost, 0, 1, HopReceive::kCopy},
                    Processes{"pp3_one_gpu_copies", 3, 1, DataPlane::kHost, 0, 1, HopReceive::kCopy},
                    Processes{"pp2_cp2_one_gpu_copies", 2, 2, DataPlane::kHost, 0, 1, HopReceive::kCopy},
                    Processes{"pp2_two_gpus_copies", 2, 1, DataPlane::kNccl, 1, 1, HopReceive::kAuto},
                    Processes{"pp2_cp2_four_gpus_copies", 2, 2, DataPlane::kNccl, 1, 1, HopReceive::kCopy}),
    [](const auto& suite) { return suite.param.name; });

class GpuProcessFaultsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasHopper()) GTEST_SKIP() << "no Hopper GPU";
  }
  static engine::JobSettings Settings(int64_t pages) {
    engine::JobSettings settings;
    settings.model_path = kModel;
    settings.grid = {2, 1};
    settings.ops = "cuda";
    settings.cache_pages = pages;
    return settings;
  }
  static bool IsThere(int pid) { return kill(pid, 0) == 0; }
  const std::unique_ptr<checkpoint::Checkpoint> checkpoint_ = checkpoint::Checkpoint::Open(kModel);
};

// Two stages at work, of which `process` is sent `signal`: the sentence that ends the job.
std::string SentenceAfter(int signal, int process, engine::OfflineRunner& runner) {
  engine::OfflineRequest request;
  request.prompt = Prompt(50, 1, kVocabulary);
  request.max_tokens = 4;
  runner.Run({request});
  // Somewhere in the steps that follow, or before the first: a rank at work is named like an idle one.
  std::thread striker([=] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    kill(process, signal);
  });
  request.max_tokens = 1900;
  std::string sentence;
  try {
    runner.Run({request});
    ADD_FAILURE() << "a step needs both ranks";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kRankLost);
    sentence = error.what();
  }
  striker.join();
  return sentence;
}

void ExpectNamed(const char* name, const engine::JobSettings& settings,
                 const checkpoint::Checkpoint& checkpoint, DataPlane plane,
                 HopReceive hop = HopReceive::kPlane, int killed = 1) {
  auto ranks = Start({name, 2, 1, plane, 0, 1, hop}, settings, checkpoint);
  const int other = ranks->ProcessId(1 - killed);
  const int struck = ranks->ProcessId(killed);
  engine::OfflineRunner runner(settings, kRows, 64, std::move(ranks));
  const std::string sentence = SentenceAfter(SIGKILL, struck, runner);
  EXPECT_THAT(sentence, HasSubstr(fmt::format("rank {} ", killed)));
  EXPECT_THAT(sentence, HasSubstr("killed by signal 9"));
  runner.job().Stop();
  EXPECT_NE(kill(other, 0), 0) << "the other rank is still there";
}

TEST_F(GpuProcessFaultsTest, AKilledRankIsNamedAndTheOtherEnds) {
  ExpectNamed("host", Settings(32), *checkpoint_, DataPlane::kHost);
}

TEST_F(GpuProcessFaultsTest, AKilledRankIsNamedOverNccl) {
  SkipWithout(DataPlane::kNccl);
  if (IsSkipped()) return;
  ExpectNamed("nccl", Settings(32), *checkpoint_, DataPlane::kNccl);
}

// The first rank's streams wait for the second's buffers, and the other way round for nothing any more.
TEST_F(GpuProcessFaultsTest, AKilledRankIsNamedThoughStreamsWaitForIt) {
  ExpectNamed("copies", Settings(32), *checkpoint_, DataPlane::kHost, HopReceive::kCopy);
}

// The rank whose rows another's stream waits for: that stream never ends, and its process does.
TEST_F(GpuProcessFaultsTest, AKilledSenderIsNamedThoughStreamsWaitForIt) {
  ExpectNamed("copies", Settings(32), *checkpoint_, DataPlane::kHost, HopReceive::kCopy, 0);
}

// It is there and does nothing: its GPU does what its host had enqueued, and then nothing either.
TEST_F(GpuProcessFaultsTest, ARankThatStandsStillIsNamedThoughStreamsWaitForIt) {
  engine::JobSettings settings = Settings(32);
  settings.wait_limit = std::chrono::seconds(2);
  settings.stall_limit = std::chrono::seconds(1);
  for (const int stopped : {0, 1}) {
    auto ranks = Start({"copies", 2, 1, DataPlane::kHost, 0, 1, HopReceive::kCopy}, settings, *checkpoint_);
    const int struck = ranks->ProcessId(stopped);
    engine::OfflineRunner runner(settings, kRows, 64, std::move(ranks));
    EXPECT_THAT(SentenceAfter(SIGSTOP, struck, runner),
                testing::StartsWith(fmt::format("rank {} ", stopped)));
  }
}

// A cache that no card holds: the sentence of the rank that asked for it, and no process is left.
TEST_F(GpuProcessFaultsTest, NoMemoryEndsTheStartAndEveryRank) {
  const engine::JobSettings settings = Settings(int64_t{1} << 26);
  auto ranks = Start({"host", 2, 1, DataPlane::kHost, 0}, settings, *checkpoint_);
  const std::vector<int> pids = {ranks->ProcessId(0), ranks->ProcessId(1)};
  try {
    const engine::OfflineRunner runner(settings, kRows, 64, std::move(ranks));
    ADD_FAILURE() << "it fits";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kMemory) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("GPU 0 refused"));
  }
  for (const int pid : pids) EXPECT_FALSE(IsThere(pid));
}

}  // namespace
}  // namespace sluice::gpu
