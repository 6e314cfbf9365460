#include "model/weight_bytes.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/compute_pool.h"
#include "checkpoint/checkpoint_maker.h"
#include "ops/cpu/cpu_ops.h"

namespace sluice::model {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kMost = 20.0;  // sanitizers keep notes of what is written, and what was freed
#else
constexpr double kMost = 1.03;
#endif

// Anonymous memory of this process that is committed.
int64_t CommittedBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    int64_t kib = 0;
    if (word == "RssAnon:" && status >> kib) return kib * 1024;
  }
  return 0;
}

// Heads whole and cut, experts on all lanes and on one, dense MLPs whole and cut, one layer range and two,
// and with a nextn layer.
std::vector<StageSlice> Slices() {
  return {{{{0, 2}}, 0, 2, 1, 2, false, true, false},
          {{{2, 3}}, 1, 2, 2, 2, false, false, true},
          {{{0, 1}, {2, 3}}, 1, 4, 2, 1, true, true, true},
          {{{2, 3}}, 1, 2, 2, 2, false, false, true, /*nextn=*/true}};
}

class WeightBytesTest : public testing::TestWithParam<checkpoint::WeightFormat> {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-weights-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    checkpoint::MakeOptions options;
    options.format = GetParam();
    options.config_overrides = {"num_hidden_layers=3", "num_attention_heads=32",
                                "num_nextn_predict_layers=1"};
    checkpoint::MakeCheckpoint(directory_ / "model", options, checkpoint::PlanCheckpoint(options), {});
    checkpoint_ = checkpoint::Checkpoint::Open(directory_ / "model");
    numerics_ = checkpoint_->is_fp8() ? ops::Numerics::kFp8 : ops::Numerics::kExact;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path directory_;
  std::unique_ptr<checkpoint::Checkpoint> checkpoint_;
  ops::Numerics numerics_ = ops::Numerics::kExact;
};

TEST_P(WeightBytesTest, IsWhatLoadingCommits) {
  ComputePool pool(0);
  const auto ops = ops::MakeCpuOps(numerics_, pool);
  for (const StageSlice& slice : Slices()) {
    const int64_t before = CommittedBytes();
    const StageWeights weights = LoadStage(*checkpoint_, *ops, slice);
    const auto committed = static_cast<double>(CommittedBytes() - before);
    const auto expected = static_cast<double>(WeightBytes(*checkpoint_, numerics_, slice));
    // Above it: whole pages for every vector, and what the allocator keeps of the loader's own memory.
    EXPECT_GT(committed, 0.99 * expected);
    EXPECT_LT(committed, kMost * expected);
  }
}

// Heads cut in two among four lanes, the second and third without experts of their own: each part once.
TEST_P(WeightBytesTest, OfRanksWithOneStoreIsWhatTheyCommitTogether) {
  ComputePool pool(0);
  const auto ops = ops::MakeCpuOps(numerics_, pool);
  WeightStore store;
  std::set<std::string> counted;
  std::vector<StageWeights> of_lanes;
  int64_t alone = 0;
  const int64_t before = CommittedBytes();
  double expected = 0;
  for (int lane = 0; lane < 4; ++lane) {
    const StageSlice slice{{{0, 3}}, lane, 4, 2, 2, lane == 3, true, true, /*nextn=*/true};
    of_lanes.push_back(LoadStage(*checkpoint_, *ops, slice, &store));
    expected += static_cast<double>(WeightBytes(*checkpoint_, numerics_, slice, &counted));
    alone += WeightBytes(*checkpoint_, numerics_, slice);
  }
  const auto committed = static_cast<double>(CommittedBytes() - before);
  EXPECT_GT(committed, 0.99 * expected);
  EXPECT_LT(committed, kMost * expected);
  EXPECT_LT(expected, 0.8 * static_cast<double>(alone));
  const auto attention = [&](int lane) -> const AttentionWeights& {
    return of_lanes[static_cast<size_t>(lane)].layers[1].attention;
  };
  EXPECT_EQ(attention(0).up_keys, attention(2).up_keys);
  EXPECT_NE(attention(0).up_keys, attention(1).up_keys);
  EXPECT_EQ(attention(0).q_a_proj, attention(3).q_a_proj);
}

// One lane of two; the layer is as one of the model's with experts, and has embedding, head, eh_proj and
// norms beside it.
TEST_P(WeightBytesTest, OfANextnLayerAreThoseOfALayerWithExpertsAndItsOwn) {
  const auto& config = checkpoint_->config();
  StageSlice slice{{{2, 3}}, 0, 2, 1, 2, false, false, false};
  const int64_t layer = WeightBytes(*checkpoint_, numerics_, slice);
  EXPECT_EQ(NextnWeightBytes(*checkpoint_, numerics_, slice), 0);
  slice.nextn = true;
  const int64_t activation = SizeOf(ops::ActivationType(numerics_));
  const int64_t own = 2 * (config.vocab_size / 2) * config.hidden_size * activation +
                      2 * config.hidden_size * config.hidden_size * activation +
                      3 * config.hidden_size * SizeOf(DType::kF32);
  EXPECT_EQ(NextnWeightBytes(*checkpoint_, numerics_, slice), layer + own);
  EXPECT_EQ(WeightBytes(*checkpoint_, numerics_, slice), 2 * layer + own);
}

TEST_P(WeightBytesTest, LanesShareExpertsAndVocabularyButNotTheRest) {
  const auto& config = checkpoint_->config();
  const auto bytes = [&](int lane, int lanes) {
    return WeightBytes(*checkpoint_, numerics_, {{{1, 2}}, lane, lanes, 1, lanes, false, true, false});
  };
  const int64_t activation = SizeOf(ops::ActivationType(numerics_));
  const int64_t element = checkpoint_->is_fp8() ? 1 : activation;
  int64_t half = config.vocab_size / 2 * config.hidden_size * activation;
  half += config.n_routed_experts / 2 * 3 * config.hidden_size * config.moe_intermediate_size * element;
  if (checkpoint_->is_fp8()) {
    const int64_t blocks = (config.hidden_size / 128) * ((config.moe_intermediate_size + 127) / 128);
    half += config.n_routed_experts / 2 * 3 * blocks * 4;
  }
  EXPECT_EQ(bytes(0, 1) - bytes(0, 2), half);
  EXPECT_EQ(bytes(0, 2), bytes(1, 2));
}

INSTANTIATE_TEST_SUITE_P(Formats, WeightBytesTest,
                         testing::Values(checkpoint::WeightFormat::kF32, checkpoint::WeightFormat::kBF16,
                                         checkpoint::WeightFormat::kFp8));

}  // namespace
}  // namespace sluice::model
