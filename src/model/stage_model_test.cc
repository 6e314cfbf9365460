#include "model/stage_model.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>

#include "base/compute_pool.h"
#include "checkpoint/checkpoint_maker.h"
#include "comm/thread_world.h"
#include "model/relative_rms.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/reference/reference_ops.h"
#include "tensor/counter_random.h"

namespace sluice::model {
namespace {

// A one-rank stage with the whole of a small random model.
class OneRank {
 public:
  OneRank(const checkpoint::Checkpoint& checkpoint, std::unique_ptr<ops::Ops> ops, ops::CacheFormat format)
      : ops_(std::move(ops)),
        world_(comm::MakeThreadWorld(1, std::chrono::seconds(10))),
        vocab_size_(checkpoint.config().vocab_size) {
    const StageSlice slice{.layers = {{0, checkpoint.config().num_hidden_layers}}};
    stage_ = std::make_unique<StageModel>(checkpoint.config(), slice, LoadStage(checkpoint, *ops_, slice),
                                          format, /*cache_pages=*/8);
  }

  // Logits of all rows of a prompt computed in steps of `chunk` rows.
  std::vector<float> Logits(const std::vector<int32_t>& prompt, size_t chunk) {
    std::vector<float> all;
    for (size_t begin = 0; begin < prompt.size(); begin += chunk) {
      const size_t end = std::min(begin + chunk, prompt.size());
      step::Step step;
      step::StepSequence& sequence = step.sequences.emplace_back();
      sequence.first_position = static_cast<int32_t>(begin);
      sequence.tokens.assign(prompt.begin() + begin, prompt.begin() + end);
      for (size_t page = 0; page * 64 < end; ++page) sequence.pages.push_back(static_cast<int32_t>(7 - page));
      sequence.return_logits = true;
      arena_.Reset();
      const Pass pass(step, *world_.front(), nullptr, parallel::SplitMode::kInterleave, *ops_, arena_);
      const Tensor x = pass.NewActivation(pass.rows(), stage_->hidden_size());
      stage_->Embed(pass, x);
      stage_->Layers(pass, 0, x);
      stage_->Head(pass, x, WantedRows(step), [&](int64_t, const Tensor& logits) {
        EXPECT_EQ(logits.cols, vocab_size_);
        all.insert(all.end(), logits.Row<float>(0), logits.Row<float>(logits.rows));
      });
    }
    return all;
  }

 private:
  std::unique_ptr<ops::Ops> ops_;
  std::vector<std::unique_ptr<comm::Communicator>> world_;
  int64_t vocab_size_;
  std::unique_ptr<StageModel> stage_;
  Arena arena_;
};

class StageModelTest : public testing::TestWithParam<ops::CacheFormat> {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-model-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    checkpoint::MakeOptions options;
    options.preset = "tiny";
    options.format = fp8() ? checkpoint::WeightFormat::kFp8 : checkpoint::WeightFormat::kF32;
    options.config_overrides = {"hidden_size=128", "num_hidden_layers=2", "num_attention_heads=2",
                                "vocab_size=300", "intermediate_size=128"};
    checkpoint::MakeCheckpoint(directory_ / "model", options, checkpoint::PlanCheckpoint(options), {});
    checkpoint_ = checkpoint::Checkpoint::Open(directory_ / "model");
    for (uint64_t i = 0; i < 150; ++i) prompt_.push_back(static_cast<int32_t>(SplitMix64(i) % 300));
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  static bool fp8() { return GetParam() != ops::CacheFormat::kF32; }
  static ops::Numerics numerics() { return fp8() ? ops::Numerics::kFp8 : ops::Numerics::kExact; }

  std::filesystem::path directory_;
  std::unique_ptr<checkpoint::Checkpoint> checkpoint_;
  std::vector<int32_t> prompt_;
};

// Up to index_topk = 64 keys the selection is the identity in both back ends, so near ties cannot tell them
// apart.
TEST_P(StageModelTest, TheCpuBackEndAgreesWithTheDoublePrecisionReference) {
  ComputePool pool(1);
  OneRank cpu(*checkpoint_, ops::MakeCpuOps(numerics(), pool), GetParam());
  OneRank reference(*checkpoint_, ops::MakeReferenceOps(numerics()), GetParam());
  const std::vector<int32_t> prompt(prompt_.begin(), prompt_.begin() + 64);
  const double distance = RelativeRms(cpu.Logits(prompt, 64), reference.Logits(prompt, 64));
  EXPECT_LE(distance, fp8() ? 2e-2 : 1e-5);
}

TEST_P(StageModelTest, AModelWithoutAFileGivesTheSameAnswer) {
  ComputePool pool(1);
  const auto random = checkpoint::Checkpoint::Open(
      fmt::format("random:tiny?hidden=128&layers=2&heads=2&vocab=300&intermediate_size=128&dtype={}",
                  fp8() ? "fp8" : "f32"));
  OneRank stored(*checkpoint_, ops::MakeCpuOps(numerics(), pool), GetParam());
  OneRank made(*random, ops::MakeCpuOps(numerics(), pool), GetParam());
  EXPECT_EQ(made.Logits(prompt_, 64), stored.Logits(prompt_, 64));
  OneRank reference(*random, ops::MakeReferenceOps(numerics()), GetParam());
  const std::vector<int32_t> prompt(prompt_.begin(), prompt_.begin() + 64);
  EXPECT_LE(RelativeRms(made.Logits(prompt, 64), reference.Logits(prompt, 64)), fp8() ? 2e-2 : 1e-5);
}

TEST_P(StageModelTest, ChunksDoNotChangeABit) {
  ComputePool pool(1);
  OneRank cpu(*checkpoint_, ops::MakeCpuOps(numerics(), pool), GetParam());
  const std::vector<float> whole = cpu.Logits(prompt_, prompt_.size());
  EXPECT_EQ(cpu.Logits(prompt_, 1), whole);
  EXPECT_EQ(cpu.Logits(prompt_, 37), whole);
}

INSTANTIATE_TEST_SUITE_P(Caches, StageModelTest,
                         testing::Values(ops::CacheFormat::kF32, ops::CacheFormat::kFp8,
                                         ops::CacheFormat::kBf16),
                         [](const auto& suite) {
                           if (suite.param == ops::CacheFormat::kF32) return "exact";
                           return suite.param == ops::CacheFormat::kFp8 ? "fp8" : "bf16_cache";
                         });

}  // namespace
}  // namespace sluice::model
