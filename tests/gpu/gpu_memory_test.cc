#include "cli/gpu_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "engine/rank_set.h"
#include "gpu_run.h"
#include "ops/cuda/device.h"

// What ranks on a GPU say that they will take is what the driver sees them take, and it is all they take.
namespace sluice::gpu {
namespace {

constexpr double kDifference = 0.02;  // of what the driver reports
constexpr int64_t kMiB = int64_t{1} << 20;

// A job of thread ranks that share GPU 0, its pages by the plan.
class Job {
 public:
  Job(const std::string& model, const parallel::Grid& grid, const step::StepLimits& largest, double fraction,
      int64_t pages = 0)
      : checkpoint_(checkpoint::Checkpoint::Open(model)), limits_(largest) {
    settings_.model_path = model;
    settings_.grid = grid;
    settings_.ops = "cuda";
    settings_.largest_step = largest;
    for (int64_t rows = 1; rows <= largest.sequences; ++rows) settings_.graph_rows.push_back(rows);
    engine::CheckFits(settings_, checkpoint_->config(), checkpoint_->is_fp8());
    plan_ = cli::PlanGpuMemory(0, ops::cuda::MemoryOf(0),
                               engine::MemoryOfRanks(settings_, *checkpoint_, true), fraction, pages);
    settings_.cache_pages = plan_.pages;
  }
  // `chunk`: rows of a step, those of the limits unless given.
  void Start(int64_t chunk = 0) {
    runner_ = std::make_unique<engine::OfflineRunner>(settings_, chunk > 0 ? chunk : limits_.rows,
                                                      limits_.sequences,
                                                      engine::StartThreadRanks(settings_, checkpoint_, {}));
  }
  void Run(const std::vector<int64_t>& prompts, int64_t max_tokens) {
    std::vector<engine::OfflineRequest> requests;
    for (const int64_t length : prompts) {
      engine::OfflineRequest& request = requests.emplace_back();
      request.prompt = Prompt(length, static_cast<uint64_t>(length), checkpoint_->config().vocab_size);
      request.max_tokens = max_tokens;
      request.sampling.top_logprobs = 20;
    }
    runner_->Run(requests);
  }
  const cli::GpuMemoryPlan& plan() const { return plan_; }

 private:
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint_;
  const step::StepLimits limits_;
  engine::JobSettings settings_;
  cli::GpuMemoryPlan plan_;
  std::unique_ptr<engine::OfflineRunner> runner_;
};

class GpuMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasHopper()) GTEST_SKIP() << "no Hopper GPU";
  }
};

constexpr const char* kSmall =
    "random:tiny?dtype=fp8&layers=5&hidden=512&heads=8&index_heads=32&topk=128&experts=12&n_group=2&topk_"
    "group=1&seed=9";

void ExpectNear(int64_t planned, int64_t seen) {
  std::printf("planned %.3f GiB, the driver reports %.3f GiB\n", static_cast<double>(planned) / (1 << 30),
              static_cast<double>(seen) / (1 << 30));
  EXPECT_NEAR(static_cast<double>(planned), static_cast<double>(seen),
              kDifference * static_cast<double>(seen));
}

struct Layout {
  const char* name;
  parallel::Grid grid;
};
class GpuMemoryPlanTest : public testing::TestWithParam<Layout> {
 protected:
  void SetUp() override {
    if (!HasHopper()) GTEST_SKIP() << "no Hopper GPU";
  }
};

// Steps of prompts and answers, alone and mixed, that fill the cache's first pages on every rank.
TEST_P(GpuMemoryPlanTest, IsWhatTheDriverReportsAndAllThatIsTaken) {
  Job job("random:v3.2?layers=4&dense=2&seed=7", GetParam().grid, {1024, 8, 16384}, 0.7);
  const std::string table = job.plan().Table();
  std::printf("%s\n", table.c_str());
  job.Start();
  const ops::cuda::MemoryInfo ready = ops::cuda::MemoryOf(0);
  ExpectNear(job.plan().planned_bytes(), job.plan().before.free_bytes - ready.free_bytes);
  job.Run({5000, 1, 300, 77, 1, 2000}, 5);
  const ops::cuda::MemoryInfo after = ops::cuda::MemoryOf(0);
  EXPECT_EQ(after.allocations, ready.allocations);
  ExpectNear(job.plan().planned_bytes(), job.plan().before.free_bytes - after.free_bytes);
}

INSTANTIATE_TEST_SUITE_P(Layouts, GpuMemoryPlanTest,
                         testing::Values(Layout{"one", {1, 1}}, Layout{"pp2_cp2", {2, 2}},
                                         Layout{"atp2", {1, 2, 2}}),
                         [](const auto& suite) { return suite.param.name; });

// Every layer scores all keys, 128 times as many as it takes.
TEST_F(GpuMemoryTest, APromptOf128KTakesNoMoreThanOneOf16KButCache) {
  constexpr int64_t kLong = 128 * 1024;
  constexpr int64_t kShort = 16 * 1024;
  Job job("random:v3.2?layers=2&dense=1&seed=7", {1, 1}, {1024, 4, kLong + 64}, 0.0, kLong / 64 + 1);
  job.Start();
  job.Run({kShort}, 2);
  const ops::cuda::MemoryInfo before = ops::cuda::MemoryOf(0);
  job.Run({kLong}, 2);
  const ops::cuda::MemoryInfo after = ops::cuda::MemoryOf(0);
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_LE(before.free_bytes - after.free_bytes, 2 * kMiB);
}

// Also beyond one server: between plans for contexts of 16K and 1M there is a slab of scores and page tables.
TEST_F(GpuMemoryTest, ThePlanGrowsByNoMoreThanASlabOfScores) {
  const auto workspace = [](int64_t context) {
    const Job job("random:v3.2?layers=2&dense=1&seed=7", {1, 1}, {1024, 4, context}, 0.0, 1);
    return job.plan().ranks.front();
  };
  const engine::RankMemory few = workspace(16 * 1024);
  const engine::RankMemory many = workspace(1024 * 1024);
  EXPECT_EQ(few.activations, many.activations);
  EXPECT_EQ(few.weights, many.weights);
  EXPECT_LE(many.workspace - few.workspace, 256 * kMiB);
}

TEST_F(GpuMemoryTest, AStepBeyondWhatWasReservedIsNamedAndEndsTheJob) {
  Job job(kSmall, {2, 1}, {64, 8, 4096}, 0.0, 64);
  job.Start(128);
  const int64_t allocations = ops::cuda::MemoryOf(0).allocations;
  try {
    job.Run({100}, 1);
    ADD_FAILURE() << "128 rows in memory for 64";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("a pass of 100 rows asks for"));
  }
  EXPECT_EQ(ops::cuda::MemoryOf(0).allocations, allocations);
}

TEST_F(GpuMemoryTest, AnOpBeyondWhatWasReservedIsNamed) {
  const auto ops = ops::cuda::MakeCudaOps(0);
  ops::OpLimits limits;
  limits.places = limits.list = 64;
  limits.sequences = 1;
  limits.positions = 1024;
  limits.linear_inputs = 64 * 128;
  limits.top_k = 128;
  limits.vocabulary = 1000;
  ops->Reserve(limits);
  const RandomMatrix random{.dtype = DType::kF8E4M3, .rows = 128, .cols = 128};
  const auto weight = ops->Pack(ops::RawOf(random));
  constexpr int64_t kRows = 1'500'000;  // 192 MB of codes
  const OwnedTensor x(DType::kBF16, kRows, 128, ops->memory());
  const OwnedTensor y(DType::kBF16, kRows, 128, ops->memory());
  ops->Linear(x.view().RowRange(0, 64), *weight, y.view().RowRange(0, 64));
  ops->Finish();
  const int64_t allocations = ops::cuda::MemoryOf(0).allocations;
  const auto refused = [&](const auto& op) {
    try {
      op();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInternal);
      return std::string(error.what());
    }
    return std::string("done");
  };
  EXPECT_THAT(refused([&] { ops->Linear(x, *weight, y); }), testing::HasSubstr("bytes of workspace, and"));
  EXPECT_THAT(refused([&] { ops->CopyRows(x, std::vector<int64_t>(3 * kMiB, 0), y); }),
              testing::HasSubstr("the lists of an op take"));
  EXPECT_EQ(ops::cuda::MemoryOf(0).allocations, allocations);
}

TEST_F(GpuMemoryTest, TooLittleIsSaidBeforeAnythingIsAllocated) {
  const ops::cuda::MemoryInfo before = ops::cuda::MemoryOf(0);
  try {
    const Job job("random:v3.2", {1, 1}, {1024, 64, 16384}, 0.9);
    ADD_FAILURE() << "700 GB fit";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kMemory);
    EXPECT_THAT(error.what(), testing::HasSubstr("\n  weights"));
  }
  EXPECT_EQ(ops::cuda::MemoryOf(0).allocations, before.allocations);
}

}  // namespace
}  // namespace sluice::gpu
