#include "checkpoint/recall_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "checkpoint/checkpoint_maker.h"
#include "checkpoint/rope_scaling.h"
#include "checkpoint/test_support.h"
#include "text/tokenizer.h"

namespace sluice::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<float> Dense(const ModelConfig& config, const TensorSpec& spec, DType dtype) {
  const auto entries = RecallEntries(config, spec);
  SLUICE_CHECK(entries.has_value(), "{}", spec.name);
  const int64_t rows = spec.shape.size() == 1 ? 1 : spec.shape[0];
  const int64_t cols = spec.shape.back();
  std::vector<std::byte> data(rows * cols * SizeOf(dtype));
  const int64_t blocks = (cols + 127) / 128;
  std::vector<float> scales((rows + 127) / 128 * blocks, 1.0F);
  FillEntries(*entries, rows, cols, dtype, data.data(), dtype == DType::kF8E4M3 ? scales.data() : nullptr);
  std::vector<float> values(rows * cols);
  for (int64_t i = 0; i < rows * cols; ++i) {
    if (dtype == DType::kF32) {
      values[i] = reinterpret_cast<const float*>(data.data())[i];
    } else if (dtype == DType::kBF16) {
      values[i] = ToFloat(reinterpret_cast<const BF16*>(data.data())[i]);
    } else {
      values[i] = ToFloat(reinterpret_cast<const F8E4M3*>(data.data())[i]) *
                  scales[i / cols / 128 * blocks + i % cols / 128];
    }
  }
  return values;
}

TensorSpec SpecIn(const CheckpointPlan& plan, const std::string& name) {
  return *std::ranges::find(plan.specs, name, &TensorSpec::name);
}

RandomModel Model(const std::string& preset, std::vector<std::string> overrides = {}) {
  RandomModel model;
  model.preset = preset;
  model.config_overrides = std::move(overrides);
  return model;
}

TEST(RecallWeights, CodesOfTwoTokensAgreeInHalfOfTheirSignsAtMost) {
  const CheckpointPlan plan = PlanRecall(Model("small"));  // 2048 tokens: every class, and its negative
  const auto table = Dense(plan.config, SpecIn(plan, "model.embed_tokens.weight"), DType::kBF16);
  const int64_t hidden = plan.config.hidden_size;
  for (int64_t a = 0; a < plan.config.vocab_size; ++a) {
    for (int64_t b = 0; b < plan.config.vocab_size; b += a % 16 == 0 ? 1 : 61) {
      double agreement = 0.0;
      for (int64_t i = 0; i < hidden; ++i) agreement += table[a * hidden + i] * table[b * hidden + i];
      if (a == b) {
        ASSERT_EQ(agreement, 64.0);
      } else {
        ASSERT_LE(agreement, 32.0) << a << " " << b;
      }
    }
  }
}

// What the header says of layer 0, from the weights as they are stored: the key one place back leads every
// other of 40,000 places, in attention (nats) and in the indexer.
TEST(RecallWeights, TheKeyOnePlaceBackLeads) {
  RandomModel glm = Model("glm-5", {"vocab_size=2048"});
  glm.layers = 2;
  for (const RandomModel& model : {Model("tiny"), Model("small"), glm}) {
    const CheckpointPlan plan = PlanRecall(model);
    const ModelConfig& c = plan.config;
    const std::vector<float> frequencies = ops::InverseFrequencies(RopeScalingOf(c));
    const int64_t pairs = c.qk_rope_head_dim / 2;
    const int64_t width = c.qk_nope_head_dim + c.qk_rope_head_dim;
    const double scale = ops::SoftmaxScale(width, RopeScalingOf(c));
    const double sign = std::sqrt(static_cast<double>(c.hidden_size) / 64);   // of E behind the input norm
    const double query = std::sqrt(static_cast<double>(c.q_lora_rank) / 64);  // of c_q
    for (const auto& [dtype, least] : {std::pair{DType::kF32, 39.99}, {DType::kF8E4M3, 37.0}}) {
      const auto q = Dense(c, SpecIn(plan, "model.layers.0.self_attn.q_b_proj.weight"), dtype);
      const auto k = Dense(c, SpecIn(plan, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"), dtype);
      const auto index_q = Dense(c, SpecIn(plan, "model.layers.0.self_attn.indexer.wq_b.weight"), dtype);
      const auto index_k = Dense(c, SpecIn(plan, "model.layers.0.self_attn.indexer.wk.weight"), dtype);
      // Column 32 is the constant 1.
      const auto score = [&](int64_t distance) {
        double sum = 0.0;
        for (int64_t i = 0; i < pairs; ++i) {
          const double turn = static_cast<double>(distance) * frequencies[i];
          const double qx = q[(c.qk_nope_head_dim + 2 * i) * c.q_lora_rank + 32] * query;
          const double qy = q[(c.qk_nope_head_dim + 2 * i + 1) * c.q_lora_rank + 32] * query;
          const double kx = k[(c.kv_lora_rank + 2 * i) * c.hidden_size + 32] * sign;
          const double ky = k[(c.kv_lora_rank + 2 * i + 1) * c.hidden_size + 32] * sign;
          sum += (qx * std::cos(turn) - qy * std::sin(turn)) * kx +
                 (qx * std::sin(turn) + qy * std::cos(turn)) * ky;
        }
        return scale * sum;
      };
      const auto index_score = [&](int64_t distance) {
        double sum = 0.0;
        for (int64_t i = 0; i < pairs; ++i) {
          const int64_t x = c.indexer_rope_interleave ? 2 * i : i;
          const int64_t y = c.indexer_rope_interleave ? 2 * i + 1 : i + pairs;
          const double turn = static_cast<double>(distance) * frequencies[i];
          const double qx = index_q[x * c.q_lora_rank + 32];
          const double qy = index_q[y * c.q_lora_rank + 32];
          sum += (qx * std::cos(turn) - qy * std::sin(turn)) * index_k[x * c.hidden_size + 32] +
                 (qx * std::sin(turn) + qy * std::cos(turn)) * index_k[y * c.hidden_size + 32];
        }
        return sum;
      };
      double rival = -1e9;
      double index_rival = -1e9;
      double far = -1e9;
      for (int64_t d = 0; d < 40000; ++d) {
        if (d == 1) continue;
        rival = std::max(rival, score(d));
        index_rival = std::max(index_rival, index_score(d));
        if (d > 20) far = std::max(far, index_score(d));
      }
      EXPECT_GE(score(1) - rival, least) << model.preset;
      // Of 64: the neighbours are 1.6 or more behind, those that could crowd index_topk 13 or more.
      EXPECT_GE(index_score(1) - index_rival, 1.55) << model.preset;
      EXPECT_GE(index_score(1) - far, 13.0) << model.preset;
    }
  }
}

TEST(RecallWeights, MakesWhatOpenAcceptsInEveryFormat) {
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kBF16, WeightFormat::kFp8}) {
    const TempDirectory directory;
    MakeOptions options;
    options.format = format;
    options.config_overrides = {"num_nextn_predict_layers=1"};
    const CheckpointPlan plan = PlanRecall(options);
    MakeCheckpoint(directory.path(), options, plan, nullptr);
    const auto checkpoint = Checkpoint::Open(directory.path());
    checkpoint->VerifyIntact();
    EXPECT_EQ(checkpoint->tensor_count() + checkpoint->nextn_tensor_count(), plan.tensors);
    const auto tokenizer = text::Tokenizer::Load(directory / "tokenizer.json");
    EXPECT_EQ(tokenizer->vocab_size(), 1024);
    EXPECT_EQ(tokenizer->Encode("k0=v0k17=v42k255=v255"),
              (std::vector<int32_t>{512, 768, 512 + 17, 768 + 42, 767, 1023}));
    EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{512 + 17, 768 + 42}), "k17=v42");
  }
}

// Only what the header lists is set: the layers in between add nothing, and are not empty either.
TEST(RecallWeights, OtherLayersPassThroughAndAreRandom) {
  const CheckpointPlan plan = PlanRecall(Model("small"));  // layers 0, 3 and 5
  std::set<std::string> silent;
  int64_t random = 0;
  for (const TensorSpec& spec : plan.specs) {
    const auto entries = RecallEntries(plan.config, spec);
    if (!entries) {
      ++random;
    } else if (entries->empty()) {
      silent.insert(spec.name.substr(0, 15) + spec.name.substr(spec.name.rfind('.', spec.name.size() - 8)));
    }
  }
  EXPECT_TRUE(silent.contains("model.layers.1..o_proj.weight"));
  EXPECT_TRUE(silent.contains("model.layers.1..down_proj.weight"));
  EXPECT_TRUE(silent.contains("model.layers.5..o_proj.weight"));
  EXPECT_TRUE(silent.contains("model.layers.0..down_proj.weight"));
  EXPECT_FALSE(silent.contains("model.layers.0..o_proj.weight"));
  EXPECT_FALSE(silent.contains("model.layers.3..o_proj.weight"));
  EXPECT_GT(random, 100);
}

TEST(RecallWeights, SizesThatCannotHoldTheFieldsAreRefused) {
  const auto sentence = [](const std::string& override_text, const std::string& preset = "tiny") {
    return SentenceOf([&] { PlanRecall(Model(preset, {override_text})); });
  };
  EXPECT_THAT(sentence("hidden_size=128"), AllOf(HasSubstr("hidden_size 256 or more, not 128"),
                                                 HasSubstr("--config-override hidden_size=256")));
  EXPECT_THAT(sentence("kv_lora_rank=64"), HasSubstr("kv_lora_rank 128 or more"));
  EXPECT_THAT(sentence("v_head_dim=32"), HasSubstr("v_head_dim 64 or more"));
  EXPECT_THAT(sentence("index_head_dim=64"), HasSubstr("index_head_dim 128 or more"));
  EXPECT_THAT(sentence("moe_intermediate_size=32"), HasSubstr("moe_intermediate_size 64 or more"));
  EXPECT_THAT(sentence("vocab_size=512"), HasSubstr("vocab_size from 1024 to 2048 that is a multiple of 32"));
  EXPECT_THAT(sentence("vocab_size=1040"), HasSubstr("vocab_size"));
  EXPECT_THAT(sentence("num_hidden_layers=61", "v3.2"), HasSubstr("vocab_size=2048"));
}

TEST(RecallWeights, EntriesAreRoundedInTheirBlock) {
  const std::vector<WeightEntry> entries = {{0, 0, 448.0F}, {1, 2, -3.3F}, {129, 130, 0.30078125F}};
  std::vector<float> scales(4, -1.0F);
  std::vector<std::byte> data(130 * 131);
  FillEntries(entries, 130, 131, DType::kF8E4M3, data.data(), scales.data());
  EXPECT_EQ(scales[0], 1.0F);
  EXPECT_EQ(scales[3], std::ldexp(1.0F, -10));  // 0.3 / 448 up to a power of two
  const auto at = [&](int64_t row, int64_t col) {
    return ToFloat(F8E4M3{static_cast<uint8_t>(data[row * 131 + col])}) * scales[row / 128 * 2 + col / 128];
  };
  EXPECT_EQ(at(0, 0), 448.0F);
  EXPECT_EQ(at(1, 2), -3.25F);
  EXPECT_EQ(at(129, 130), 0.3125F);
  EXPECT_EQ(at(77, 77), 0.0F);
  EXPECT_EQ(std::ranges::count_if(data, [](std::byte byte) { return byte != std::byte{0}; }), 3);
}

}  // namespace
}  // namespace sluice::checkpoint
