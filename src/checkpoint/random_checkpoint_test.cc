#include "checkpoint/random_checkpoint.h"

#include <gtest/gtest.h>

#include <set>

#include "base/compute_pool.h"
#include "checkpoint/presets.h"
#include "checkpoint/random_path.h"
#include "checkpoint/test_support.h"
#include "text/tokenizer.h"

namespace sluice::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string_view Bytes(const void* data, int64_t bytes) {
  return {static_cast<const char*>(data), static_cast<size_t>(bytes)};
}

// The one promise: what `sluice checkpoint make` writes, byte for byte, without its being written.
class MadeAndRandom : public ::testing::TestWithParam<const char*> {};

TEST_P(MadeAndRandom, AreTheSameModel) {
  const std::string path = GetParam();
  const TempDirectory directory;
  MakeOptions options;
  static_cast<RandomModel&>(options) = ParseRandomPath(path);
  options.threads = 2;
  options.shard_bytes = 3'000'000;
  MakeCheckpoint(directory.path(), options, PlanCheckpoint(options), nullptr);
  const auto stored = Checkpoint::Open(directory.path());
  const auto random = Checkpoint::Open(path);

  EXPECT_EQ(CanonicalText(random->config()), CanonicalText(stored->config()));
  EXPECT_EQ(random->is_fp8(), stored->is_fp8());
  EXPECT_EQ(random->tensor_count(), stored->tensor_count());
  EXPECT_EQ(random->tensor_bytes(), stored->tensor_bytes());
  EXPECT_EQ(random->nextn_tensor_count(), stored->nextn_tensor_count());
  ComputePool pool(1);
  for (const TensorSpec& spec : TensorsOf(stored->config(), WholeModel(stored->config()))) {
    const StoredTensor there = stored->Get(spec.name);
    const StoredTensor made = random->Get(spec.name);
    ASSERT_TRUE(made.random.has_value());
    ASSERT_EQ(made.data, nullptr);
    ASSERT_EQ(made.dtype, there.dtype) << spec.name;
    ASSERT_EQ(made.shape, there.shape) << spec.name;
    ASSERT_EQ(made.bytes, there.bytes) << spec.name;
    ASSERT_EQ(random->Has(ScaleName(spec.name)), stored->Has(ScaleName(spec.name))) << spec.name;
    std::vector<std::byte> data(static_cast<size_t>(made.bytes));
    std::vector<float> scales(1 << 14);
    FillRandom(*made.random, pool, data.data(), scales.data());
    ASSERT_TRUE(Bytes(data.data(), made.bytes) == Bytes(there.data, there.bytes)) << spec.name;
    if (!stored->Has(ScaleName(spec.name))) continue;
    const StoredTensor scales_there = stored->Get(ScaleName(spec.name));
    ASSERT_TRUE(Bytes(scales.data(), scales_there.bytes) == Bytes(scales_there.data, scales_there.bytes))
        << spec.name;
  }
  for (const char* name : kTextFiles) {
    EXPECT_EQ(random->TextFile(name), ReadBytes(directory / name)) << name;
    EXPECT_EQ(random->TextFile(name), stored->TextFile(name)) << name;
  }
  EXPECT_EQ(random->TextFile("model.safetensors.index.json"), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(
    RandomCheckpoint, MadeAndRandom,
    ::testing::Values("random:tiny", "random:tiny?dtype=f32&layers=2&seed=3",
                      "random:tiny?dtype=fp8&seed=18446744073709551615&embedding_gain=16",
                      "random:tiny?num_nextn_predict_layers=1&experts=8&hidden=200&dtype=fp8",
                      "random:small?layers=3&dense=1&vocab=300",
                      "random:glm-5-78?layers=2&dtype=fp8&heads=2&vocab=512&num_nextn_predict_layers=0",
                      "random:glm-5.2-78?layers=5&experts=8&vocab=512&dtype=fp8"));

TEST(RandomCheckpoint, PublishedSizesAreThose) {
  const auto v32 = Checkpoint::Open("random:v3.2");
  EXPECT_TRUE(v32->is_fp8());
  const ModelConfig& c = v32->config();
  EXPECT_EQ(std::tuple(c.hidden_size, c.num_hidden_layers, c.first_k_dense_replace, c.intermediate_size),
            std::tuple(7168, 61, 3, 18432));
  EXPECT_EQ(std::tuple(c.num_attention_heads, c.q_lora_rank, c.kv_lora_rank, c.qk_nope_head_dim,
                       c.qk_rope_head_dim, c.v_head_dim),
            std::tuple(128, 1536, 512, 128, 64, 128));
  EXPECT_EQ(std::tuple(c.index_n_heads, c.index_head_dim, c.index_topk, c.indexer_rope_interleave),
            std::tuple(64, 128, 2048, false));
  EXPECT_EQ(std::tuple(c.n_routed_experts, c.moe_intermediate_size, c.num_experts_per_tok, c.n_group,
                       c.topk_group, c.n_shared_experts),
            std::tuple(256, 2048, 8, 8, 4, 1));
  EXPECT_EQ(std::tuple(c.vocab_size, c.max_position_embeddings, c.rms_norm_eps, c.rope.yarn, c.rope.factor),
            std::tuple(129280, 163840, 1e-6, true, 40.0));
  // 671 billion parameters without the nextn layer, of which nearly all are a byte.
  EXPECT_NEAR(static_cast<double>(v32->tensor_bytes()) / 1e9, 673, 3);

  const auto glm5 = Checkpoint::Open("random:glm-5");
  const ModelConfig& g = glm5->config();
  EXPECT_EQ(std::tuple(g.hidden_size, g.num_hidden_layers, g.first_k_dense_replace, g.intermediate_size),
            std::tuple(6144, 78, 3, 12288));
  EXPECT_EQ(std::tuple(g.num_attention_heads, g.q_lora_rank, g.kv_lora_rank, g.qk_nope_head_dim,
                       g.qk_rope_head_dim, g.v_head_dim),
            std::tuple(64, 2048, 512, 192, 64, 256));
  EXPECT_EQ(std::tuple(g.index_n_heads, g.index_head_dim, g.index_topk, g.indexer_rope_interleave),
            std::tuple(32, 128, 2048, true));
  EXPECT_EQ(std::tuple(g.n_routed_experts, g.moe_intermediate_size, g.num_experts_per_tok, g.n_group,
                       g.topk_group, g.n_shared_experts),
            std::tuple(256, 2048, 8, 1, 1, 1));
  EXPECT_EQ(std::tuple(g.vocab_size, g.max_position_embeddings, g.rms_norm_eps, g.rope.yarn, g.rope.theta),
            std::tuple(154880, 202752, 1e-5, false, 1e6));
  EXPECT_EQ(g.IndexersIn(0, 78), 78);
  EXPECT_EQ(g.architecture, "GlmMoeDsaForCausalLM");

  const auto glm52 = Checkpoint::Open("random:glm-5.2");
  const ModelConfig& s = glm52->config();
  EXPECT_EQ(std::tuple(s.hidden_size, s.max_position_embeddings, s.rope.theta, s.rms_norm_eps),
            std::tuple(6144, 1048576, 8e6, 1e-5));
  // The schedule that was published: 21 layers with an indexer.
  std::vector<int64_t> full;
  for (int64_t layer = 0; layer < 78; ++layer) {
    if (s.HasIndexer(layer)) full.push_back(layer);
  }
  EXPECT_THAT(full,
              ElementsAre(0, 1, 2, 6, 10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 50, 54, 58, 62, 66, 70, 74));
  EXPECT_FALSE(glm52->Has("model.layers.39.self_attn.indexer.wk.weight"));
  EXPECT_TRUE(glm52->Has("model.layers.38.self_attn.indexer.wk.weight"));
  EXPECT_TRUE(glm52->Has("model.layers.39.self_attn.o_proj.weight"));
}

TEST(RandomCheckpoint, PathSaysTheModel) {
  const RandomModel plain = ParseRandomPath("random:v3.2");
  EXPECT_EQ(plain.format, WeightFormat::kFp8);
  EXPECT_EQ(plain.seed, 0U);
  const auto cut = Checkpoint::Open("random:v3.2?layers=6&dense=1&seed=7&dtype=bf16&experts=32&topk=512");
  EXPECT_EQ(cut->config().num_hidden_layers, 6);
  EXPECT_EQ(cut->config().first_k_dense_replace, 1);
  EXPECT_EQ(cut->config().n_routed_experts, 32);
  EXPECT_EQ(cut->config().index_topk, 512);
  EXPECT_FALSE(cut->is_fp8());
  // The first layers, dense as they are.
  EXPECT_EQ(Checkpoint::Open("random:v3.2?layers=2")->config().first_k_dense_replace, 2);
  EXPECT_EQ(Checkpoint::Open("random:v3.2?layers=5")->config().first_k_dense_replace, 3);
  EXPECT_EQ(ParseRandomPath("random:tiny").format, WeightFormat::kBF16);
  EXPECT_FALSE(IsRandomPath("/models/random:tiny"));
}

// Equal descriptions are one model to the ranks of a job, however they are written; any other is another one.
TEST(RandomCheckpoint, FingerprintIsOfTheModel) {
  const auto of = [](const char* path) { return Checkpoint::Open(path)->fingerprint(); };
  EXPECT_EQ(of("random:tiny?layers=2&seed=5"), of("random:tiny?seed=5&num_hidden_layers=2&dtype=bf16"));
  std::set<uint64_t> all;
  for (const char* path :
       {"random:tiny", "random:tiny?seed=1", "random:tiny?layers=3", "random:tiny?dtype=fp8",
        "random:tiny?dtype=f32", "random:tiny?embedding_gain=2", "random:small"}) {
    all.insert(of(path));
  }
  EXPECT_EQ(all.size(), 7U);
}

TEST(RandomCheckpoint, SaysWhatIsWrong) {
  const auto sentence = [](const char* path) {
    try {
      Checkpoint::Open(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kModelFiles) << path;
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(sentence("random:tinny"),
              AllOf(HasSubstr("no preset \"tinny\"; did you mean tiny?"),
                    HasSubstr("v3.2-61, v3.2, glm-5-78, glm-5.2-78, glm-5, glm-5.2")));
  EXPECT_THAT(sentence("random:"), HasSubstr("no preset \"\"; known are tiny"));
  EXPECT_THAT(sentence("random:tiny?layer=3"), AllOf(HasSubstr("no key \"layer\"; did you mean layers?"),
                                                     HasSubstr("known are layers, seed")));
  EXPECT_THAT(sentence("random:tiny?hidden_siez=3"), HasSubstr("did you mean hidden_size?"));
  EXPECT_THAT(sentence("random:tiny?model_type=3"), HasSubstr("no key \"model_type\""));
  EXPECT_THAT(sentence("random:tiny?layers=six"), HasSubstr("layers=six is not a number of layers"));
  EXPECT_THAT(sentence("random:tiny?layers=0"), HasSubstr("layers=0 is below 1"));
  EXPECT_THAT(sentence("random:tiny?layers=300"), HasSubstr("\"num_hidden_layers\" is 300"));
  EXPECT_THAT(sentence("random:tiny?seed=-1"), HasSubstr("seed=-1 is not a number from 0 to 2^64 - 1"));
  EXPECT_THAT(sentence("random:tiny?dtype=int4"), HasSubstr("dtype=int4 is not known; use f32, bf16 or fp8"));
  EXPECT_THAT(sentence("random:tiny?embedding_gain=3"), HasSubstr("gain 3 is no power of two"));
  EXPECT_THAT(sentence("random:tiny?seed=1&seed=2"), HasSubstr("seed is given twice"));
  EXPECT_THAT(sentence("random:tiny?seed"), HasSubstr("\"seed\" is no key=value"));
  EXPECT_THAT(sentence("random:tiny?"), HasSubstr("\"\" is no key=value"));
  EXPECT_THAT(sentence("random:tiny?experts=15"), HasSubstr("a divisor of n_routed_experts, 15"));
  EXPECT_THAT(sentence("random:tiny?vocab=100"), HasSubstr("a vocabulary of 100 is too small"));
  EXPECT_THAT(SentenceOf([] { Checkpoint::Open("random:tiny")->Get("model.nrom.weight"); }),
              HasSubstr("random:tiny has no tensor model.nrom.weight."));
}

}  // namespace
}  // namespace sluice::checkpoint
