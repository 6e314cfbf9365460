#include "model/weights.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <span>
#include <string_view>

#include "base/checked.h"
#include "base/compute_pool.h"
#include "checkpoint/checkpoint_maker.h"
#include "checkpoint/random_path.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/gemm.h"
#include "ops/weight_list.h"

namespace sluice::model {
namespace {

// Every byte of what LoadStage keeps, in one text.
class Contents {
 public:
  explicit Contents(const StageWeights& weights) {
    if (weights.embed_tokens) Add(*weights.embed_tokens);
    for (const LayerWeights& layer : weights.layers) {
      Add(layer.input_layernorm);
      Add(layer.post_attention_layernorm);
      const AttentionWeights& a = layer.attention;
      for (const WeightPtr* w : {&a.q_a_proj, &a.q_b_proj, &a.kv_a_proj_with_mqa, &a.o_proj}) Add(**w);
      Add(a.q_a_layernorm);
      Add(a.kv_a_layernorm);
      Add(a.up_keys);
      Add(a.up_values);
      const IndexerWeights& i = layer.indexer.value();
      for (const WeightPtr* w : {&i.wq_b, &i.wk, &i.weights_proj}) Add(**w);
      Add(i.k_norm_weight);
      Add(i.k_norm_bias);
      if (layer.mlp) Add(*layer.mlp);
      if (!layer.moe) continue;
      Add(*layer.moe->gate);
      Add(layer.moe->e_score_correction_bias);
      Add(layer.moe->experts.gate_proj);
      Add(layer.moe->experts.up_proj);
      Add(layer.moe->experts.down_proj);
      if (layer.moe->shared_experts) Add(*layer.moe->shared_experts);
      text += layer.moe->fp8_experts ? "fp8" : "plain";
    }
    if (weights.norm) Add(*weights.norm);
    if (weights.lm_head) Add(**weights.lm_head);
  }
  std::string text;

 private:
  void Add(const void* data, int64_t bytes) {
    text += std::string_view(static_cast<const char*>(data), static_cast<size_t>(bytes));
  }
  void Add(const OwnedTensor& tensor) { Add(tensor.view().data, tensor.view().bytes()); }
  void Add(const ops::Weight& weight) {
    const auto& packed = dynamic_cast<const ops::cpu::PackedWeight&>(weight);
    for (int64_t panel = 0; panel < packed.panels(); ++panel) {
      Add(packed.Panel(panel), ops::cpu::kPanel * packed.cols() * SizeOf(packed.dtype()));
      if (!packed.is_fp8()) continue;
      Add(packed.PanelScales(panel), CeilDiv(packed.cols(), ops::kQuantBlock) * SizeOf(DType::kF32));
    }
  }
  void Add(const WeightGroupPtr& group) {
    if (group == nullptr) return;
    for (int64_t i = 0; i < group->count(); ++i) Add(ops::ListOf(*group)[i]);
  }
  void Add(const MlpWeights& mlp) {
    for (const WeightPtr* w : {&mlp.gate_proj, &mlp.up_proj, &mlp.down_proj}) Add(**w);
  }
};

// A random model is loaded as the file that is made of it, byte for byte, on every lane of every cut.
class RandomModelTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-weights-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    checkpoint::MakeOptions options;
    static_cast<checkpoint::RandomModel&>(options) = checkpoint::ParseRandomPath(GetParam());
    checkpoint::MakeCheckpoint(directory_ / "model", options, checkpoint::PlanCheckpoint(options), {});
    stored_ = checkpoint::Checkpoint::Open(directory_ / "model");
    random_ = checkpoint::Checkpoint::Open(GetParam());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path directory_;
  std::unique_ptr<checkpoint::Checkpoint> stored_;
  std::unique_ptr<checkpoint::Checkpoint> random_;
};

TEST_P(RandomModelTest, IsLoadedAsTheFileMadeOfIt) {
  ComputePool pool(1);
  for (const ops::Numerics numerics : {ops::Numerics::kExact, ops::Numerics::kFp8}) {
    for (int lane = 0; lane < 3; ++lane) {
      StageSlice slice{.layers = {{0, 2}}};
      if (lane < 2) {
        slice.lane = lane;
        slice.lanes = slice.attn_tp = slice.expert_owners = 2;
        slice.dense_tp = true;
      }
      const auto cpu = ops::MakeCpuOps(numerics, pool);
      const Contents from_file(LoadStage(*stored_, *cpu, slice));
      const Contents made(LoadStage(*random_, *cpu, slice));
      EXPECT_GT(made.text.size(), 1'000'000U);
      EXPECT_TRUE(made.text == from_file.text) << lane;
    }
  }
}

// Of the mappings of files in a directory.
int64_t ResidentKiB(const std::filesystem::path& directory) {
  std::ifstream maps("/proc/self/smaps");
  int64_t kib = 0;
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    const size_t path = line.find(" /");
    const bool header = line.find('-') < line.find(' ');
    if (header) inside = path != std::string::npos && line.substr(path + 1).starts_with(directory.string());
    if (inside && line.starts_with("Rss:")) kib += std::stoll(line.substr(4));
  }
  return kib;
}

// Packed weights are the only copy: nothing of the files stays in memory beside them.
TEST_P(RandomModelTest, LeavesNoPagesOfTheFileBehind) {
  ComputePool pool(1);
  const auto cpu = ops::MakeCpuOps(ops::Numerics::kExact, pool);
  const auto touched = stored_->Get("model.embed_tokens.weight");
  EXPECT_NE(std::ranges::count(std::span(touched.data, touched.bytes), std::byte{1}), 0);
  EXPECT_GT(ResidentKiB(directory_), touched.bytes / 1024 / 2);
  const StageWeights weights = LoadStage(*stored_, *cpu, {.layers = {{0, 2}}});
  EXPECT_GT(stored_->tensor_bytes(), 2'000'000);
  EXPECT_LT(ResidentKiB(directory_), 300);
}

INSTANTIATE_TEST_SUITE_P(
    Weights, RandomModelTest,
    ::testing::Values("random:tiny?layers=2&vocab=300&hidden=200&intermediate_size=300&seed=3",
                      "random:tiny?layers=2&vocab=300&dtype=fp8&heads=4&v_head_dim=192"
                      "&embedding_gain=16",
                      "random:tiny?layers=2&vocab=300&dtype=f32"));

}  // namespace
}  // namespace sluice::model
