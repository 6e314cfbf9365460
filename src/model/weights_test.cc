#include "model/weights.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string_view>

#include "base/checked.h"
#include "base/compute_pool.h"
#include "checkpoint/checkpoint_maker.h"
#include "checkpoint/random_path.h"
#include "checkpoint/tensor_map.h"
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
    for (const LayerWeights& layer : weights.layers) Add(layer);
    if (weights.norm) Add(*weights.norm);
    if (weights.lm_head) Add(**weights.lm_head);
    for (const NextnWeights& nextn : weights.nextn) {
      if (nextn.embed_tokens) Add(*nextn.embed_tokens);
      Add(nextn.enorm);
      Add(nextn.hnorm);
      Add(*nextn.eh_proj);
      Add(nextn.layer);
      Add(nextn.shared_head_norm);
      if (nextn.shared_head) Add(**nextn.shared_head);
    }
  }
  explicit Contents(const ops::Weight& weight) { Add(weight); }
  std::string text;

 private:
  void Add(const LayerWeights& layer) {
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
    if (!layer.moe) return;
    Add(*layer.moe->gate);
    Add(layer.moe->e_score_correction_bias);
    Add(layer.moe->experts.gate_proj);
    Add(layer.moe->experts.up_proj);
    Add(layer.moe->experts.down_proj);
    if (layer.moe->shared_experts) Add(*layer.moe->shared_experts);
    text += layer.moe->fp8_experts ? "fp8" : "plain";
  }
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
      StageSlice slice{.layers = {{0, 2}}, .nextn = true};
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

// A nextn layer's tensors are those of its names: each packed once more from the file.
TEST_P(RandomModelTest, NextnTensorsAreThoseOfTheirNames) {
  ComputePool pool(1);
  const auto cpu = ops::MakeCpuOps(ops::Numerics::kFp8, pool);
  StageSlice slice{.layers = {{0, 2}}};
  EXPECT_TRUE(LoadStage(*stored_, *cpu, slice).nextn.empty());
  slice.nextn = true;
  const StageWeights weights = LoadStage(*stored_, *cpu, slice);
  const int64_t layers = stored_->config().num_nextn_predict_layers;
  ASSERT_EQ(std::ssize(weights.nextn), layers);
  const auto packed = [&](const std::string& name) {
    const auto tensor = stored_->Get(name);
    ops::RawMatrix raw{tensor.dtype, tensor.shape[0], tensor.shape[1], tensor.data, nullptr};
    if (tensor.dtype == DType::kF8E4M3) {
      raw.scales = reinterpret_cast<const float*>(stored_->Get(checkpoint::ScaleName(name)).data);
    }
    return Contents(*cpu->Pack(raw)).text;
  };
  for (int64_t i = 0; i < layers; ++i) {
    const NextnWeights& nextn = weights.nextn[static_cast<size_t>(i)];
    const std::string prefix = checkpoint::LayerPrefix(stored_->config().num_hidden_layers + i);
    const std::map<std::string, const ops::Weight*> matrices = {
        {"eh_proj.weight", nextn.eh_proj.get()},
        {"shared_head.head.weight", nextn.shared_head->get()},
        {"self_attn.q_a_proj.weight", nextn.layer.attention.q_a_proj.get()},
        {"self_attn.o_proj.weight", nextn.layer.attention.o_proj.get()},
        {"self_attn.indexer.wk.weight", nextn.layer.indexer->wk.get()},
        {"mlp.gate.weight", nextn.layer.moe->gate.get()},
        {"mlp.experts.3.up_proj.weight", &ops::ListOf(*nextn.layer.moe->experts.up_proj)[3]},
        {"mlp.shared_experts.down_proj.weight", nextn.layer.moe->shared_experts->down_proj.get()}};
    for (const auto& [name, weight] : matrices) {
      EXPECT_TRUE(Contents(*weight).text == packed(prefix + name)) << prefix << name;
    }
    const std::map<std::string, const OwnedTensor*> vectors = {
        {"enorm.weight", &nextn.enorm},
        {"hnorm.weight", &nextn.hnorm},
        {"shared_head.norm.weight", &nextn.shared_head_norm},
        {"input_layernorm.weight", &nextn.layer.input_layernorm}};
    for (const auto& [name, vector] : vectors) {
      const auto tensor = stored_->Get(prefix + name);
      const Tensor view{const_cast<std::byte*>(tensor.data), tensor.dtype, 1, tensor.shape[0],
                        tensor.shape[0]};
      ASSERT_EQ(vector->view().cols, tensor.shape[0]);
      for (int64_t c = 0; c < tensor.shape[0]; ++c) {
        ASSERT_EQ(vector->view().At<float>(0, c), LoadFloat(view, 0, c)) << prefix << name;
      }
    }
    ASSERT_TRUE(nextn.embed_tokens.has_value());
    const auto table = stored_->Get(prefix + "embed_tokens.weight");
    const Tensor view{const_cast<std::byte*>(table.data), table.dtype, table.shape[0], table.shape[1],
                      table.shape[1]};
    const OwnedTensor rounded(ops::ActivationType(ops::Numerics::kFp8), 1, 1);
    StoreFloat(rounded, 0, 0, LoadFloat(view, 7, 5));
    EXPECT_EQ(LoadFloat(nextn.embed_tokens->view(), 7, 5), LoadFloat(rounded.view(), 0, 0));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Weights, RandomModelTest,
    ::testing::Values("random:tiny?layers=2&vocab=300&hidden=200&intermediate_size=300&seed=3"
                      "&num_nextn_predict_layers=1",
                      "random:tiny?layers=2&vocab=300&dtype=fp8&heads=4&v_head_dim=192"
                      "&embedding_gain=16&num_nextn_predict_layers=2",
                      "random:glm-5.2-78?layers=2&dense=1&vocab=300&dtype=fp8",
                      "random:tiny?layers=2&vocab=300&dtype=f32"));

}  // namespace
}  // namespace sluice::model
