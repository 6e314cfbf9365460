#include "checkpoint/nextn.h"

#include <gtest/gtest.h>

#include "checkpoint/test_support.h"

namespace sluice::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

CheckpointPlan PlanOf(const std::string& preset, int64_t layers) {
  MakeOptions options;
  options.preset = preset;
  options.format = WeightFormat::kFp8;
  options.config_overrides = {"num_hidden_layers=3",
                              "first_k_dense_replace=1",
                              "hidden_size=48",
                              "vocab_size=64",
                              "q_lora_rank=16",
                              "kv_lora_rank=160",
                              "intermediate_size=32",
                              "n_routed_experts=4",
                              "n_group=1",
                              "topk_group=1",
                              "num_experts_per_tok=2",
                              "num_attention_heads=2",
                              "moe_intermediate_size=16",
                              "index_n_heads=2",
                              fmt::format("num_nextn_predict_layers={}", layers)};
  return PlanCheckpoint(options);
}

// A checkpoint with nextn layers, of either family, some of whose tensors are left out.
class Nextn : public ::testing::TestWithParam<const char*> {
 protected:
  // The sentence with which the checkpoint is refused that has no tensor for which `left_out` is true.
  template <typename LeftOut>
  std::string RefusalWithout(const LeftOut& left_out) {
    return SentenceOf([&] { CheckNextnIsWhole(*Open(left_out), "DIR", "--load-mtp"); });
  }

  template <typename LeftOut>
  std::unique_ptr<Checkpoint> Open(const LeftOut& left_out) {
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
      std::filesystem::remove(entry.path());
    }
    std::vector<TensorToWrite> tensors = ConstantTensors(plan_, WeightFormat::kFp8);
    std::erase_if(tensors, [&](const auto& tensor) {
      const std::string& name = tensor.name;
      return left_out(IsScaleName(name) ? name.substr(0, name.size() - std::string_view(kScaleSuffix).size())
                                        : name);
    });
    WriteDirectory(directory_.path(), plan_, std::move(tensors), /*shard_bytes=*/10'000'000);
    return Checkpoint::Open(directory_.path());
  }

  const CheckpointPlan plan_ = PlanOf(GetParam(), 2);
  TempDirectory directory_;
};

// Every tensor of both layers in turn. What published checkpoints do without may be missing.
TEST_P(Nextn, EachTensorThatIsMissingIsNamed) {
  int64_t needed = 0;
  for (const TensorSpec& spec : NextnTensors(plan_.config)) {
    const std::string sentence = RefusalWithout([&](const std::string& name) { return name == spec.name; });
    if (spec.name.ends_with(".embed_tokens.weight") || spec.name.ends_with(".shared_head.head.weight")) {
      EXPECT_EQ(sentence, "no error") << spec.name;
      continue;
    }
    ++needed;
    const std::string layer = spec.name.starts_with("model.layers.3.") ? "3" : "4";
    EXPECT_EQ(sentence,
              "--load-mtp: tensor " + spec.name + " of multi-token-prediction layer " + layer +
                  " is missing from DIR: leave --load-mtp out, or use a checkpoint that has the layer");
  }
  // Three norms and eh_proj, two norms, attention 7, indexer 5, router 2, three matrices of 4 + 1 experts.
  EXPECT_EQ(needed, 2 * (4 + 2 + 7 + 5 + 2 + 15));
}

TEST_P(Nextn, AnIndexerIsThereOrNot) {
  EXPECT_EQ(RefusalWithout([](const std::string& name) {
              return name.starts_with("model.layers.4.") && name.find(".indexer.") != std::string::npos;
            }),
            "no error");
}

TEST_P(Nextn, ALayerThatIsNotThereIsRefusedByItsFirstTensor) {
  EXPECT_THAT(RefusalWithout([](const std::string& name) { return name.starts_with("model.layers.3."); }),
              StartsWith("--load-mtp: tensor model.layers.3.enorm.weight of multi-token-prediction layer 3"));
}

TEST_P(Nextn, WhatIsSkippedIsSaidByName) {
  const auto whole = Open([](const std::string&) { return false; });
  EXPECT_THAT(SkippedNextnLine(*whole, "what to do"),
              AllOf(HasSubstr(fmt::format("{} tensors of model.layers.3.*, model.layers.4.* are skipped",
                                          plan_.nextn_tensors)),
                    EndsWith("; what to do")));
  EXPECT_EQ(SkippedNextnLine(*Open([](const std::string& name) {
              return name.starts_with("model.layers.3.") || name.starts_with("model.layers.4.");
            }),
                             "what to do"),
            "");
}

TEST_P(Nextn, ThoseThatAreThereAreListedWithTheExpertsOfARank) {
  const auto checkpoint = Open([](const std::string& name) {
    return name.ends_with(".embed_tokens.weight") && name != "model.embed_tokens.weight";
  });
  EXPECT_THAT(NextnLayers(checkpoint->config()), ElementsAre(3, 4));
  std::vector<std::string> experts;
  for (const TensorSpec& spec : PresentNextnTensors(*checkpoint, 1, 2)) {
    EXPECT_FALSE(spec.name.ends_with("embed_tokens.weight"));
    if (spec.name.find(".experts.") != std::string::npos) experts.push_back(spec.name);
  }
  EXPECT_THAT(experts, ElementsAre("model.layers.3.mlp.experts.1.gate_proj.weight",
                                   "model.layers.3.mlp.experts.1.up_proj.weight",
                                   "model.layers.3.mlp.experts.1.down_proj.weight",
                                   "model.layers.4.mlp.experts.1.gate_proj.weight",
                                   "model.layers.4.mlp.experts.1.up_proj.weight",
                                   "model.layers.4.mlp.experts.1.down_proj.weight"));
}

INSTANTIATE_TEST_SUITE_P(Families, Nextn, ::testing::Values("tiny", "glm-5.2-78"));

TEST(NextnLayersOf, AConfigWithoutAnyAreRefused) {
  const auto checkpoint = Checkpoint::Open("random:tiny");
  EXPECT_EQ(SentenceOf([&] { CheckNextnIsWhole(*checkpoint, "DIR", "--load-mtp"); }),
            "--load-mtp: config.json of DIR has no num_nextn_predict_layers above 0, so the model has no "
            "multi-token-prediction layer: leave --load-mtp out");
  EXPECT_EQ(SkippedNextnLine(*checkpoint, "what to do"), "");
}

}  // namespace
}  // namespace sluice::checkpoint
