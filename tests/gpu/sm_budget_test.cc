#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "back_ends.h"
#include "gpu_run.h"

// What the scoring kernel's launches really were, read back from the kernel, on every rank of whole runs.
namespace sluice::gpu {
namespace {

struct Case {
  const char* name;
  int stages;
  int lanes;
  bool receives_hold_sm;
  std::optional<int> reserve;
  std::vector<int> left;  // by stage: SMs that the kernel leaves
};
void PrintTo(const Case& at, std::ostream* out) { *out << at.name; }

struct Result {
  std::vector<Answer> answers;
  std::vector<ops::cuda::LaunchRecord> launches;  // of the scoring kernel, by rank
};

Result RunCase(const Case& at) {
  GpuRun run{
      "random:tiny?dtype=fp8&layers=4&hidden=512&heads=8&index_heads=32&topk=128&experts=8&n_group=2&topk_"
      "group=1"};
  run.stages = at.stages;
  run.lanes = at.lanes;
  run.chunk = 96;
  run.receives_hold_sm = at.receives_hold_sm;
  run.sm_reserve = at.reserve;
  Result result;
  AskBackEnds(
      run, [](ops::cuda::CudaOps& back_end) { return back_end.ScoringLaunches(); }, result.launches);
  constexpr int64_t kVocabulary = 1024;
  result.answers = RunPrompts(run, {Prompt(701, 3, kVocabulary), Prompt(200, 4, kVocabulary)}, 6);
  return result;
}

class SmBudgetTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!HasHopper()) GTEST_SKIP() << "no Hopper GPU";
  }
};

TEST_P(SmBudgetTest, TheGridLaunchedIsWhatTheHopLeavesAndChangesNoBit) {
  static const Result plain = RunCase({"", 1, 1, false, {}, {0}});
  const Case& at = GetParam();
  const Result result = RunCase(at);
  int sms = 0;
  ASSERT_EQ(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
  ASSERT_EQ(std::ssize(result.launches), at.stages * at.lanes);
  for (int rank = 0; rank < at.stages * at.lanes; ++rank) {
    const ops::cuda::LaunchRecord& record = result.launches[static_cast<size_t>(rank)];
    const int expected = sms - at.left[static_cast<size_t>(rank / at.lanes)];
    EXPECT_GT(record.launches, 5) << "rank " << rank;
    EXPECT_EQ(record.fewest_blocks, expected) << "rank " << rank;
    EXPECT_EQ(record.most_blocks, expected) << "rank " << rank;
    std::printf("%s: rank %d: %d launches of %d to %d blocks\n", at.name, rank, record.launches,
                record.fewest_blocks, record.most_blocks);
  }
  ASSERT_EQ(result.answers.size(), plain.answers.size());
  for (size_t i = 0; i < plain.answers.size(); ++i) {
    EXPECT_EQ(result.answers[i].tokens, plain.answers[i].tokens);
    const std::vector<float>& logits = result.answers[i].logits;
    ASSERT_EQ(logits.size(), plain.answers[i].logits.size());
    EXPECT_EQ(std::memcmp(logits.data(), plain.answers[i].logits.data(), logits.size() * sizeof(float)), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Receives, SmBudgetTest,
    testing::Values(Case{"copy_pp1", 1, 1, false, {}, {0}}, Case{"copy_pp2", 2, 1, false, {}, {0, 0}},
                    Case{"sm_pp1", 1, 2, true, {}, {0}}, Case{"sm_pp2", 2, 1, true, {}, {1, 0}},
                    Case{"sm_pp2_cp2", 2, 2, true, {}, {1, 0}}, Case{"sm_pp4", 4, 1, true, {}, {1, 1, 1, 0}},
                    Case{"reserve0", 2, 1, true, 0, {0, 0}}, Case{"reserve5", 2, 1, false, 5, {5, 5}}),
    [](const auto& at) { return at.param.name; });

}  // namespace
}  // namespace sluice::gpu
