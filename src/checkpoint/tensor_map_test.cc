#include "checkpoint/tensor_map.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "checkpoint/test_support.h"

namespace sluice::checkpoint {
namespace {

// DeepSeek-V3.2 as published.
ModelConfig Published() {
  MakeOptions options;
  options.preset = "v3.2-61";
  options.config_overrides = {"hidden_size=7168",          "vocab_size=129280", "intermediate_size=18432",
                              "n_routed_experts=256",      "q_lora_rank=1536",  "num_attention_heads=128",
                              "index_n_heads=64",          "index_topk=2048",   "num_experts_per_tok=8",
                              "moe_intermediate_size=2048"};
  return PlanCheckpoint(options).config;
}

int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t product = 1;
  for (const int64_t extent : shape) product *= extent;
  return product;
}

// 91991 tensors of the published DeepSeek-R1 header plus, for 62 layers, five indexer tensors and two scales.
TEST(TensorMap, CountsThePublishedModel) {
  const ModelConfig config = Published();
  int64_t tensors = 0;
  int64_t parameters = 0;
  auto specs = TensorsOf(config, WholeModel(config));
  for (auto& spec : NextnTensors(config)) specs.push_back(spec);
  int64_t indexer = 0;
  for (const TensorSpec& spec : specs) {
    tensors += spec.kind == TensorKind::kLinear ? 2 : 1;
    (spec.name.find(".indexer.") != std::string::npos ? indexer : parameters) += Elements(spec.shape);
  }
  EXPECT_EQ(tensors, 91991 + 7 * 62);
  EXPECT_NEAR(static_cast<double>(parameters), 684.5e9, 0.05e9);  // of DeepSeek-R1, nextn layer included
}

TEST(TensorMap, HasThePublishedShapes) {
  const ModelConfig config = Published();
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TensorSpec& spec : TensorsOf(config, WholeModel(config))) shapes[spec.name] = spec.shape;
  for (const TensorSpec& spec : NextnTensors(config)) shapes[spec.name] = spec.shape;
  using Shape = std::vector<int64_t>;
  const std::string layer = "model.layers.60.";
  EXPECT_EQ(shapes.at("model.embed_tokens.weight"), (Shape{129280, 7168}));
  EXPECT_EQ(shapes.at("lm_head.weight"), (Shape{129280, 7168}));
  EXPECT_EQ(shapes.at(layer + "self_attn.q_a_proj.weight"), (Shape{1536, 7168}));
  EXPECT_EQ(shapes.at(layer + "self_attn.q_b_proj.weight"), (Shape{24576, 1536}));
  EXPECT_EQ(shapes.at(layer + "self_attn.kv_a_proj_with_mqa.weight"), (Shape{576, 7168}));
  EXPECT_EQ(shapes.at(layer + "self_attn.kv_b_proj.weight"), (Shape{32768, 512}));
  EXPECT_EQ(shapes.at(layer + "self_attn.o_proj.weight"), (Shape{7168, 16384}));
  EXPECT_EQ(shapes.at(layer + "self_attn.indexer.wq_b.weight"), (Shape{8192, 1536}));
  EXPECT_EQ(shapes.at(layer + "self_attn.indexer.wk.weight"), (Shape{128, 7168}));
  EXPECT_EQ(shapes.at(layer + "self_attn.indexer.weights_proj.weight"), (Shape{64, 7168}));
  EXPECT_EQ(shapes.at(layer + "mlp.gate.weight"), (Shape{256, 7168}));
  EXPECT_EQ(shapes.at(layer + "mlp.experts.255.down_proj.weight"), (Shape{7168, 2048}));
  EXPECT_EQ(shapes.at("model.layers.2.mlp.up_proj.weight"), (Shape{18432, 7168}));
  EXPECT_EQ(shapes.at("model.layers.61.eh_proj.weight"), (Shape{7168, 14336}));
  EXPECT_FALSE(shapes.contains("model.layers.2.mlp.gate.weight"));
  EXPECT_FALSE(shapes.contains("model.layers.3.mlp.up_proj.weight"));
  EXPECT_EQ(ScaleShape({576, 7168}), (Shape{5, 56}));
}

// GLM-5.2: heads of 192 + 64 and 256 channels, whose rows of kv_b_proj are three and a half scale blocks; an
// indexer in 21 of 78 layers.
TEST(TensorMap, HasTheShapesOfGlm) {
  MakeOptions options;
  options.preset = "glm-5.2";
  const ModelConfig config = PlanCheckpoint(options).config;
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const TensorSpec& spec : TensorsOf(config, WholeModel(config))) shapes[spec.name] = spec.shape;
  using Shape = std::vector<int64_t>;
  const std::string attention = "model.layers.74.self_attn.";
  EXPECT_EQ(shapes.at("model.embed_tokens.weight"), (Shape{154880, 6144}));
  EXPECT_EQ(shapes.at(attention + "q_a_proj.weight"), (Shape{2048, 6144}));
  EXPECT_EQ(shapes.at(attention + "q_b_proj.weight"), (Shape{16384, 2048}));
  EXPECT_EQ(shapes.at(attention + "kv_b_proj.weight"), (Shape{28672, 512}));
  EXPECT_EQ(ScaleShape({28672, 512}), (Shape{224, 4}));
  EXPECT_EQ(shapes.at(attention + "o_proj.weight"), (Shape{6144, 16384}));
  EXPECT_EQ(shapes.at(attention + "indexer.wq_b.weight"), (Shape{4096, 2048}));
  EXPECT_EQ(shapes.at(attention + "indexer.wk.weight"), (Shape{128, 6144}));
  EXPECT_EQ(shapes.at(attention + "indexer.weights_proj.weight"), (Shape{32, 6144}));
  EXPECT_EQ(shapes.at("model.layers.2.mlp.up_proj.weight"), (Shape{12288, 6144}));
  int64_t with_indexer = 0;
  for (const auto& [name, shape] : shapes) with_indexer += name.ends_with("indexer.wk.weight") ? 1 : 0;
  EXPECT_EQ(with_indexer, 21);
  EXPECT_FALSE(shapes.contains("model.layers.75.self_attn.indexer.k_norm.bias"));
  // The nextn layer may have its own, as any.
  std::set<std::string> nextn;
  for (const TensorSpec& spec : NextnTensors(config)) nextn.insert(spec.name);
  EXPECT_TRUE(nextn.contains("model.layers.78.self_attn.indexer.wk.weight"));
  EXPECT_TRUE(nextn.contains("model.layers.78.eh_proj.weight"));
}

// Parts that tile layers, ends and experts hold every tensor; only what a layer keeps whole is held twice.
TEST(TensorMap, PartsTogetherAreTheWhole) {
  const ModelConfig config = PlanCheckpoint({}).config;  // tiny: 4 layers, 16 experts
  std::multiset<std::string> parts;
  for (const auto& [begin, end] : {std::pair(0, 1), {1, 3}, {3, 4}}) {
    for (const auto& [first, last] : {std::pair(0, 5), {5, 16}}) {
      const ModelPart part{begin, end, first, last, begin == 0, end == 4};
      for (const TensorSpec& spec : TensorsOf(config, part)) parts.insert(spec.name);
    }
  }
  const auto whole = TensorsOf(config, WholeModel(config));
  std::set<std::string> names;
  for (const TensorSpec& spec : whole) {
    names.insert(spec.name);
    const bool expert = spec.name.find(".experts.") != std::string::npos;
    EXPECT_EQ(parts.count(spec.name), expert ? 1U : 2U) << spec.name;
  }
  EXPECT_EQ(names.size(), whole.size());
  EXPECT_EQ(std::set<std::string>(parts.begin(), parts.end()), names);
}

TEST(TensorMap, OnlyLinearsMayBeFp8) {
  EXPECT_TRUE(MayHaveDType(TensorKind::kLinear, DType::kF8E4M3));
  for (const TensorKind kind : {TensorKind::kKeptLinear, TensorKind::kEmbedding, TensorKind::kNorm,
                                TensorKind::kNormBias, TensorKind::kRouterBias}) {
    EXPECT_FALSE(MayHaveDType(kind, DType::kF8E4M3));
    EXPECT_TRUE(MayHaveDType(kind, DType::kF16));
  }
  EXPECT_FALSE(MayHaveDType(TensorKind::kLinear, DType::kI32));
}

}  // namespace
}  // namespace sluice::checkpoint
