#include "checkpoint/checkpoint_maker.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "checkpoint/random_weights.h"
#include "checkpoint/test_support.h"
#include "text/tokenizer.h"

namespace sluice::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

MakeOptions Options(const std::string& preset, WeightFormat format) {
  MakeOptions options;
  options.preset = preset;
  options.format = format;
  return options;
}

TEST(CheckpointMaker, PresetsHaveTheirSizes) {
  const auto megabytes = [](const char* preset, WeightFormat format) {
    return static_cast<double>(PlanCheckpoint(Options(preset, format)).bytes) / 1e6;
  };
  EXPECT_LT(megabytes("tiny", WeightFormat::kF32), 50);
  EXPECT_LT(megabytes("tiny", WeightFormat::kFp8), 15);
  EXPECT_LT(megabytes("small", WeightFormat::kBF16), 150);
  EXPECT_GT(megabytes("small", WeightFormat::kBF16), 3 * megabytes("tiny", WeightFormat::kBF16));
  EXPECT_LT(megabytes("v3.2-61", WeightFormat::kFp8), 300);
  const ModelConfig real = PlanCheckpoint(Options("v3.2-61", WeightFormat::kFp8)).config;
  EXPECT_EQ(real.num_hidden_layers, 61);
  EXPECT_EQ(real.first_k_dense_replace, 3);
  EXPECT_EQ(real.num_nextn_predict_layers, 1);
}

TEST(CheckpointMaker, MakesWhatOpenAccepts) {
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kBF16, WeightFormat::kFp8}) {
    const TempDirectory directory;
    MakeOptions options = Options("tiny", format);
    options.seed = 5;
    options.shard_bytes = 1'000'000;
    options.config_overrides = {"num_hidden_layers=2", "num_nextn_predict_layers=1", "n_routed_experts=8"};
    const CheckpointPlan plan = PlanCheckpoint(options);
    MakeCheckpoint(directory.path(), options, plan, nullptr);
    const auto checkpoint = Checkpoint::Open(directory.path());
    EXPECT_EQ(checkpoint->is_fp8(), format == WeightFormat::kFp8);
    EXPECT_EQ(checkpoint->tensor_count() + checkpoint->nextn_tensor_count(), plan.tensors);
    EXPECT_GT(checkpoint->nextn_tensor_count(), 20);
    for (const TensorSpec& spec : plan.specs) {
      const DType dtype = checkpoint->Get(spec.name).dtype;
      const DType wide = format == WeightFormat::kF32 ? DType::kF32 : DType::kBF16;
      const DType linear = format == WeightFormat::kFp8 ? DType::kF8E4M3 : wide;
      EXPECT_EQ(dtype, spec.kind == TensorKind::kRouterBias ? DType::kF32
                       : spec.kind == TensorKind::kLinear   ? linear
                                                            : wide)
          << spec.name;
    }
    const auto tokenizer = text::Tokenizer::Load(directory / "tokenizer.json");
    EXPECT_EQ(tokenizer->vocab_size(), plan.config.vocab_size);
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("One prompt, 2 stages.\n")), "One prompt, 2 stages.\n");
  }
}

TEST(CheckpointMaker, ValuesAreThoseOfTheGenerator) {
  const TempDirectory directory;
  MakeOptions options = Options("tiny", WeightFormat::kBF16);
  options.seed = 9;
  options.threads = 3;
  options.config_overrides = {"num_hidden_layers=1"};
  const CheckpointPlan plan = PlanCheckpoint(options);
  MakeCheckpoint(directory.path(), options, plan, nullptr);
  const auto checkpoint = Checkpoint::Open(directory.path());
  for (const TensorSpec& spec : plan.specs) {
    const RandomMatrix values = MatrixOf(spec, options);
    const StoredTensor stored = checkpoint->Get(spec.name);
    for (int64_t i = 0; i < values.rows * values.cols; i += 61) {
      BF16 element;
      std::memcpy(&element, stored.data + 2 * i, 2);
      ASSERT_EQ(element.bits, ToBF16(values.At(i / values.cols, i % values.cols)).bits)
          << spec.name << " " << i;
    }
  }
}

// The numbers of threads and shards are not in the bytes; the seed is.
TEST(CheckpointMaker, BytesDependOnTheSeedAlone) {
  const auto weights = [](uint64_t seed, int threads) {
    const TempDirectory directory;
    MakeOptions options = Options("tiny", WeightFormat::kFp8);
    options.seed = seed;
    options.threads = threads;
    options.config_overrides = {"num_hidden_layers=1"};
    MakeCheckpoint(directory.path(), options, PlanCheckpoint(options), nullptr);
    return ReadBytes(directory / "model-00001-of-00001.safetensors");
  };
  const std::string bytes = weights(1, 1);
  EXPECT_TRUE(weights(1, 4) == bytes);
  EXPECT_FALSE(weights(2, 1) == bytes);
}

TEST(CheckpointMaker, ConfigCarriesTheOverrides) {
  MakeOptions options = Options("tiny", WeightFormat::kFp8);
  options.config_overrides = {"num_attention_heads=4", "rope_scaling.factor=8", "index_topk=128"};
  const CheckpointPlan plan = PlanCheckpoint(options);
  EXPECT_EQ(plan.config.num_attention_heads, 4);
  EXPECT_EQ(plan.config.rope.factor, 8.0);
  EXPECT_EQ(plan.config.index_topk, 128);
  const auto json = nlohmann::json::parse(plan.config_text);
  EXPECT_EQ(json["architectures"], nlohmann::json::array({"DeepseekV32ForCausalLM"}));
  EXPECT_EQ(json["quantization_config"]["weight_block_size"], nlohmann::json::array({128, 128}));
  options.config_overrides = {"rope_scaling=null"};
  EXPECT_FALSE(PlanCheckpoint(options).config.rope.yarn);
}

TEST(CheckpointMaker, RefusesBadRequestsBeforeWriting) {
  const auto sentence = [](std::vector<std::string> overrides) {
    MakeOptions options;
    options.config_overrides = std::move(overrides);
    return SentenceOf([&] { PlanCheckpoint(options); });
  };
  EXPECT_THAT(sentence({"hidden_siez=3"}),
              HasSubstr("names \"hidden_siez\", which the preset's config does not have"));
  EXPECT_THAT(sentence({"hidden_size"}), HasSubstr("key=value is expected"));
  EXPECT_THAT(sentence({"hidden_size=wide"}), HasSubstr("\"hidden_size\" is \"wide\""));
  EXPECT_THAT(sentence({"n_group=3"}), HasSubstr("a divisor of n_routed_experts, 16"));
  EXPECT_THAT(SentenceOf([] { PlanCheckpoint(Options("huge", WeightFormat::kF32)); }),
              HasSubstr("There is no preset \"huge\"; choose one of tiny, small, v3.2-61, v3.2, glm-5-78, "
                        "glm-5.2-78, glm-5, glm-5.2."));
  EXPECT_THAT(SentenceOf([] { ParseWeightFormat("int4"); }), HasSubstr("choose f32, bf16 or fp8"));
}

TEST(CheckpointMaker, RefusesAPlaceThatIsTakenOrTooSmall) {
  const TempDirectory directory;
  MakeOptions options = Options("tiny", WeightFormat::kF32);
  WriteBytes(directory / "note.txt", "mine");
  EXPECT_THAT(
      SentenceOf([&] { MakeCheckpoint(directory.path(), options, PlanCheckpoint(options), nullptr); }),
      HasSubstr("is there already and not an empty directory"));
  options.config_overrides = {"num_hidden_layers=256", "hidden_size=65536", "moe_intermediate_size=65536",
                              "n_routed_experts=1024"};
  const CheckpointPlan plan = PlanCheckpoint(options);
  EXPECT_GT(plan.bytes, int64_t{10'000'000'000'000'000});
  EXPECT_THAT(
      SentenceOf([&] { MakeCheckpoint(directory / "new", options, plan, nullptr); }),
      AllOf(HasSubstr(fmt::format("would have {} bytes", plan.bytes)), HasSubstr("choose a smaller preset")));
  EXPECT_FALSE(std::filesystem::exists(directory / "new"));
  options.config_overrides = {"vocab_size=100"};
  EXPECT_THAT(
      SentenceOf([&] { MakeCheckpoint(directory / "new", options, PlanCheckpoint(options), nullptr); }),
      HasSubstr("100"));
  EXPECT_FALSE(std::filesystem::exists(directory / "new"));
}

}  // namespace
}  // namespace sluice::checkpoint
