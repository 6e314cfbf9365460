#include "checkpoint/model_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "checkpoint/test_support.h"

namespace sluice::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// config.json of DeepSeek-V3.2 as published.
const char* const kPublished = R"({
  "architectures": ["DeepseekV32ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3, "hidden_act": "silu",
  "hidden_size": 7168, "index_head_dim": 128, "index_n_heads": 64, "index_topk": 2048,
  "initializer_range": 0.02, "intermediate_size": 18432, "kv_lora_rank": 512,
  "max_position_embeddings": 163840, "model_type": "deepseek_v32", "moe_intermediate_size": 2048,
  "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": true,
  "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
  "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
  "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                          "scale_fmt": "ue8m0", "weight_block_size": [128, 128]},
  "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
                   "original_max_position_embeddings": 4096, "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": false,
  "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "use_cache": true,
  "v_head_dim": 128, "vocab_size": 129280})";

// The published config with a JSON merge patch: null removes a key.
std::string Patched(const std::string& patch) {
  nlohmann::json config = nlohmann::json::parse(kPublished);
  config.merge_patch(nlohmann::json::parse(patch));
  return config.dump();
}

std::vector<std::string> DefectsOfConfig(const std::string& text) {
  Defects defects;
  const auto config = ParseModelConfig(text, "config.json", defects);
  EXPECT_EQ(config.has_value(), defects.empty());
  return defects.sentences();
}

TEST(ModelConfig, ReadsThePublishedFile) {
  const TempDirectory directory;
  WriteBytes(directory / "config.json", kPublished);
  const ModelConfig config = ReadModelConfig(directory.path());
  EXPECT_EQ(config.vocab_size, 129280);
  EXPECT_EQ(config.num_hidden_layers, 61);
  EXPECT_EQ(config.first_k_dense_replace, 3);
  EXPECT_EQ(config.intermediate_size, 18432);
  EXPECT_EQ(config.moe_intermediate_size, 2048);
  EXPECT_EQ(config.n_group, 8);
  EXPECT_EQ(config.topk_group, 4);
  EXPECT_EQ(config.qk_nope_head_dim, 128);
  EXPECT_EQ(config.v_head_dim, 128);
  EXPECT_EQ(config.index_n_heads, 64);
  EXPECT_EQ(config.routed_scaling_factor, 2.5);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_FALSE(config.indexer_rope_interleave);
  EXPECT_TRUE(config.rope.yarn);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.rope.factor, 40.0);
  EXPECT_EQ(config.rope.original_max_position_embeddings, 4096);
  EXPECT_EQ(config.rope.mscale_all_dim, 1.0);
  EXPECT_EQ(config.num_nextn_predict_layers, 1);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(1));
}

TEST(ModelConfig, AcceptsTheVariantsOfKeys) {
  const char* const variants[] = {
      R"({"torch_dtype": null, "dtype": "float32"})",
      R"({"dtype": "bfloat16"})",
      R"({"rope_scaling": {"type": null, "rope_type": "yarn"}})",
      R"({"rope_scaling": {"rope_type": "yarn"}})",
      R"({"rope_scaling": null})",
      R"({"rope_scaling": null, "rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 5e4}})",
      R"({"rope_scaling": null, "rope_theta": null, "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4,
          "factor": 8, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 1024, "truncate": true, "attention_factor": null}})",
      R"({"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
          "original_max_position_embeddings": 4096}})",
      R"({"num_key_value_heads": null, "num_nextn_predict_layers": null, "quantization_config": null})",
      R"({"eos_token_id": [1, 7, 129279]})",
      R"({"qk_head_dim": 192, "head_dim": 64, "rope_interleave": true, "moe_router_dtype": "float32"})",
      R"({"scoring_func": null, "topk_method": null, "moe_layer_freq": null})",
  };
  for (const char* variant : variants) EXPECT_THAT(DefectsOfConfig(Patched(variant)), IsEmpty()) << variant;

  Defects defects;
  const auto plain = ParseModelConfig(
      Patched(R"({"rope_scaling": null, "rope_theta": null, "rope_parameters": {"rope_theta": 5e4}})"), "c",
      defects);
  ASSERT_TRUE(plain);
  EXPECT_FALSE(plain->rope.yarn);
  EXPECT_EQ(plain->rope.theta, 5e4);
}

struct Refused {
  const char* patch;
  const char* phrase;
};
const Refused kRefused[] = {
    {R"({"architectures": ["LlamaForCausalLM"]})",
     R"("architectures" is ["LlamaForCausalLM"]; expected ["DeepseekV32ForCausalLM"] or ["GlmMoeDsaForCausalLM"])"},
    {R"({"architectures": ["GlmMoeDsaForCausalLM"]})",
     R"("model_type" is "deepseek_v32"; expected "glm_moe_dsa")"},
    {R"({"architectures": null})", R"("architectures" is missing)"},
    {R"({"model_type": "deepseek_v3"})", R"("model_type" is "deepseek_v3"; expected "deepseek_v32")"},
    {R"({"hidden_size": null})", R"("hidden_size" is missing; expected an integer from 1 to 65536)"},
    {R"({"hidden_size": "7168"})", R"("hidden_size" is "7168"; expected an integer)"},
    {R"({"hidden_size": 7168.0})", R"("hidden_size" is 7168.0; expected an integer)"},
    {R"({"hidden_size": 0})", R"("hidden_size" is 0;)"},
    {R"({"hidden_size": -1})", R"("hidden_size" is -1;)"},
    {R"({"hidden_size": true})", R"("hidden_size" is true;)"},
    {R"({"hidden_size": 18446744073709551615})", R"("hidden_size" is 18446744073709551615;)"},
    {R"({"num_hidden_layers": 257})", "expected an integer from 1 to 256"},
    {R"({"first_k_dense_replace": 62})",
     R"("first_k_dense_replace" is 62; expected at most num_hidden_layers, 61)"},
    {R"({"num_key_value_heads": 64})", R"("num_key_value_heads" is 64; expected 128)"},
    {R"({"n_group": 7})", R"("n_group" is 7; expected a divisor of n_routed_experts, 256)"},
    {R"({"n_group": 256})", "at least 2 experts per group"},
    {R"({"topk_group": 9})", R"("topk_group" is 9; expected at most n_group, 8)"},
    {R"({"num_experts_per_tok": 129})",
     R"("num_experts_per_tok" is 129; expected at most 128, the experts in the 4)"},
    {R"({"qk_rope_head_dim": 63})", "expected an even number"},
    {R"({"index_head_dim": 96})", R"("index_head_dim" is 96; expected a power of two)"},
    {R"({"index_head_dim": 32})", R"("index_head_dim" is 32; expected at least qk_rope_head_dim, 64)"},
    {R"({"qk_head_dim": 128})", R"("qk_head_dim" is 128; expected 192)"},
    {R"({"scoring_func": "softmax"})", R"("scoring_func" is "softmax"; expected "sigmoid")"},
    {R"({"topk_method": "greedy"})", R"("topk_method" is "greedy")"},
    {R"({"hidden_act": "gelu"})", R"("hidden_act" is "gelu")"},
    {R"({"moe_layer_freq": 2})", R"("moe_layer_freq" is 2; expected 1)"},
    {R"({"attention_bias": true})", R"("attention_bias" is true; expected false)"},
    {R"({"tie_word_embeddings": true})", R"("tie_word_embeddings" is true)"},
    {R"({"rope_interleave": false})", R"("rope_interleave" is false)"},
    {R"({"norm_topk_prob": 1})", R"("norm_topk_prob" is 1; expected true or false)"},
    {R"({"indexer_types": ["full"]})", R"(["full"]; expected "full" or "shared" for each of 61 layers)"},
    {R"({"indexer_types": "full"})", R"("indexer_types" is "full"; expected "full" or "shared")"},
    {R"({"index_topk_freq": 0})", R"("index_topk_freq" is 0; expected an integer from 1 to 256)"},
    {R"({"index_topk_freq": 4, "index_skip_topk_offset": 0})", "layer 0 has none before it to share with"},
    {R"({"index_topk_pattern": "FSF"})", R"("index_topk_pattern" is "FSF"; expected "F" or "S" for each)"},
    {R"({"moe_router_dtype": "bfloat16"})", R"("moe_router_dtype" is "bfloat16"; expected "float32")"},
    {R"({"rms_norm_eps": 0})", R"("rms_norm_eps" is 0; expected a number from 1e-12)"},
    {R"({"routed_scaling_factor": null})", R"("routed_scaling_factor" is missing)"},
    {R"({"torch_dtype": "int8"})", R"("torch_dtype" is "int8")"},
    {R"({"dtype": "float32"})", R"("dtype" is "float32"; expected "bfloat16" as "torch_dtype" says)"},
    {R"({"rope_theta": null})", R"("rope_theta" is missing)"},
    {R"({"rope_scaling": {"type": "linear"}})",
     R"("rope_scaling.type" is "linear"; expected "yarn" or "default")"},
    {R"({"rope_scaling": {"rope_type": "default"}})",
     R"("rope_scaling.type" is "yarn"; expected "default" as)"},
    {R"({"rope_scaling": 3})", R"("rope_scaling" is 3; expected an object)"},
    {R"({"rope_scaling": {"mscale": 0.5}})",
     R"("rope_scaling.mscale" is 0.5; expected the value of mscale_all_dim, 1)"},
    {R"({"rope_scaling": {"factor": 0.5}})", R"("rope_scaling.factor" is 0.5)"},
    {R"({"rope_scaling": {"original_max_position_embeddings": null}})",
     "original_max_position_embeddings\" is missing"},
    {R"({"rope_scaling": {"attention_factor": 1.0}})",
     R"("rope_scaling.attention_factor" is 1.0; expected null)"},
    {R"({"rope_scaling": {"beta_slow": 32}})",
     R"("rope_scaling.beta_fast" is 32; expected more than beta_slow)"},
    {R"({"rope_scaling": {"rope_theta": 50000}})", R"("rope_theta" is 10000; expected 50000 as)"},
    {R"({"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000, "factor": 8, "mscale": 1.0, "mscale_all_dim": 1.0,
         "original_max_position_embeddings": 4096}})",
     R"("rope_scaling" is 40 for factor; expected 8 as "rope_parameters" says)"},
    {R"({"eos_token_id": null})",
     R"("eos_token_id" is missing; expected a token id below vocab_size, 129280)"},
    {R"({"eos_token_id": 129280})", R"("eos_token_id" is 129280)"},
    {R"({"eos_token_id": []})", R"("eos_token_id" is [])"},
    {R"({"eos_token_id": [1, "x"]})", R"("eos_token_id" is [1,"x"])"},
    {R"({"bos_token_id": -1})", R"("bos_token_id" is -1)"},
    {R"({"quantization_config": {"quant_method": "awq"}})", R"("quantization_config.quant_method" is "awq")"},
    {R"({"quantization_config": {"weight_block_size": [64, 64]}})",
     R"(weight_block_size" is [64,64]; expected [128,128])"},
    {R"({"quantization_config": {"activation_scheme": "static"}})", R"(activation_scheme" is "static")"},
};

TEST(ModelConfig, RefusesWithOneSentenceNamingFileKeyFoundAndRight) {
  for (const Refused& row : kRefused) {
    EXPECT_THAT(DefectsOfConfig(Patched(row.patch)),
                ElementsAre(AllOf(HasSubstr("config.json: "), HasSubstr(row.phrase))))
        << row.patch;
  }
}

TEST(ModelConfig, RefusesLayerListsOfAnotherSchedule) {
  nlohmann::json config = nlohmann::json::parse(kPublished);
  config["indexer_types"] = std::vector<std::string>(61, "full");
  config["mlp_layer_types"] = std::vector<std::string>(61, "sparse");
  for (int layer = 0; layer < 3; ++layer) config["mlp_layer_types"][layer] = "dense";
  EXPECT_THAT(DefectsOfConfig(config.dump()), IsEmpty());
  config["indexer_types"][0] = "shared";
  config["mlp_layer_types"][3] = "dense";
  EXPECT_THAT(DefectsOfConfig(config.dump()),
              ElementsAre(HasSubstr("\"indexer_types\" is \"shared\" for layer 0; expected \"full\", since"),
                          HasSubstr("\"mlp_layer_types\" is \"dense\" for layer 3; expected \"sparse\"")));
  config["indexer_types"][0] = "full";
  config["indexer_types"][4] = "half";
  config["mlp_layer_types"][3] = "sparse";
  EXPECT_THAT(
      DefectsOfConfig(config.dump()),
      ElementsAre(HasSubstr("\"indexer_types\" is \"half\" for layer 4; expected \"full\" or \"shared\"")));
}

// config.json of GLM-5 as published, with the keys that GLM-5.2 adds to it.
const char* const kGlm52 = R"({
  "architectures": ["GlmMoeDsaForCausalLM"], "attention_bias": false, "bos_token_id": 0, "dtype": "bfloat16",
  "eos_token_id": [154820, 154827, 154829], "first_k_dense_replace": 3, "head_dim": 192, "hidden_act": "silu",
  "hidden_size": 6144, "index_head_dim": 128, "index_n_heads": 32, "index_share_for_mtp_iteration": true,
  "index_skip_topk_offset": 3, "index_topk": 2048, "index_topk_freq": 4, "index_topk_pattern": null,
  "indexer_rope_interleave": true, "intermediate_size": 12288, "kv_lora_rank": 512,
  "max_position_embeddings": 1048576, "model_type": "glm_moe_dsa", "moe_intermediate_size": 2048,
  "moe_layer_freq": 1, "moe_router_dtype": "float32", "n_group": 1, "n_routed_experts": 256,
  "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 64, "num_experts_per_tok": 8,
  "num_hidden_layers": 78, "num_key_value_heads": 64, "num_nextn_predict_layers": 1, "pad_token_id": 154820,
  "q_lora_rank": 2048, "qk_head_dim": 256, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64,
  "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                          "modules_to_not_convert": ["lm_head"], "weight_block_size": [128, 128]},
  "rms_norm_eps": 1e-05, "rope_interleave": true,
  "rope_parameters": {"rope_theta": 8000000, "rope_type": "default"}, "routed_scaling_factor": 2.5,
  "scoring_func": "sigmoid", "tie_word_embeddings": false, "topk_group": 1, "topk_method": "noaux_tc",
  "v_head_dim": 256, "vocab_size": 154880})";

TEST(ModelConfig, ReadsGlm) {
  nlohmann::json json = nlohmann::json::parse(kGlm52);
  json["mlp_layer_types"] = std::vector<std::string>(78, "sparse");
  for (int layer = 0; layer < 3; ++layer) json["mlp_layer_types"][layer] = "dense";
  json["indexer_types"] = std::vector<std::string>(78, "shared");
  for (const int layer : {0, 1, 2}) json["indexer_types"][layer] = "full";
  for (int layer = 6; layer < 78; layer += 4) json["indexer_types"][layer] = "full";
  const auto parsed = [](const nlohmann::json& text) {
    Defects defects;
    auto config = ParseModelConfig(text.dump(), "c", defects);
    EXPECT_THAT(defects.sentences(), IsEmpty());
    return config.value();
  };
  const ModelConfig all = parsed(json);
  EXPECT_EQ(all.architecture, "GlmMoeDsaForCausalLM");
  EXPECT_EQ(all.model_type, "glm_moe_dsa");
  EXPECT_EQ(all.rope.theta, 8e6);
  EXPECT_FALSE(all.rope.yarn);
  EXPECT_TRUE(all.indexer_rope_interleave);
  EXPECT_EQ(all.rms_norm_eps, 1e-5);
  EXPECT_THAT(all.eos_token_ids, ElementsAre(154820, 154827, 154829));
  EXPECT_EQ(all.IndexersIn(0, 78), 21);
  EXPECT_EQ(all.IndexersIn(39, 78), 9);  // 42, 46, ..., 74
  EXPECT_TRUE(all.HasIndexer(38));
  EXPECT_FALSE(all.HasIndexer(39));
  EXPECT_TRUE(all.HasIndexer(78));  // the nextn layer

  // Every way to say it alone is the same model.
  const std::string canonical = CanonicalText(all);
  nlohmann::json without = json;
  without.erase("index_topk_freq");
  EXPECT_EQ(CanonicalText(parsed(without)), canonical);
  without.erase("indexer_types");
  without["index_topk_pattern"] = [&] {
    std::string letters;
    for (const auto& type : json["indexer_types"]) letters += type == "full" ? "F" : "S";
    return letters;
  }();
  EXPECT_EQ(CanonicalText(parsed(without)), canonical);
  without.erase("index_topk_pattern");
  EXPECT_NE(CanonicalText(parsed(without)), canonical);
  EXPECT_EQ(parsed(without).IndexersIn(0, 78), 78);  // GLM-5
  without["index_topk_freq"] = 4;
  EXPECT_EQ(CanonicalText(parsed(without)), canonical);
  // Without an offset max(i - 1, 0) mod 4 decides.
  without.erase("index_skip_topk_offset");
  EXPECT_TRUE(parsed(without).HasIndexer(5));
  EXPECT_FALSE(parsed(without).HasIndexer(6));
  // Dense layers may be listed alone.
  without.erase("first_k_dense_replace");
  EXPECT_EQ(parsed(without).first_k_dense_replace, 3);

  // The indexer turns neighbouring channels unless it is said otherwise.
  without.erase("indexer_rope_interleave");
  EXPECT_TRUE(parsed(without).indexer_rope_interleave);
  without["layer_types"] = std::vector<std::string>(78, "indexed_attention");
  EXPECT_THAT(CanonicalText(parsed(without)), HasSubstr("indexers=FFSSSFSSSF"));

  // Two ways that say different things.
  json["indexer_types"][40] = "full";
  EXPECT_THAT(
      DefectsOfConfig(json.dump()),
      ElementsAre(HasSubstr("\"index_topk_freq\" is 4; expected what \"indexer_types\" says, that layer "
                            "40 is full")));
}

TEST(ModelConfig, NamesEveryDefect) {
  EXPECT_THAT(DefectsOfConfig(Patched(R"({"hidden_size": 0, "index_topk": "x", "rope_theta": null})")),
              AllOf(testing::SizeIs(3), Contains(HasSubstr("hidden_size")), Contains(HasSubstr("index_topk")),
                    Contains(HasSubstr("rope_theta"))));
}

TEST(ModelConfig, RefusesTextThatIsNoConfig) {
  EXPECT_THAT(DefectsOfConfig("{"), ElementsAre(HasSubstr("config.json is not valid JSON")));
  EXPECT_THAT(DefectsOfConfig(R"({"hidden_size": 1, "hidden_size": 2})"), ElementsAre(HasSubstr("twice")));
  const TempDirectory directory;
  EXPECT_THAT(SentenceOf([&] { ReadModelConfig(directory.path()); }),
              HasSubstr("config.json cannot be opened: No such file or directory"));
}

TEST(ModelConfig, CanonicalTextTellsEachFieldApart) {
  Defects defects;
  const std::string published = CanonicalText(*ParseModelConfig(kPublished, "c", defects));
  for (const char* patch :
       {R"({"index_topk": 64})", R"({"rms_norm_eps": 1.0000001e-06})", R"({"eos_token_id": 2})",
        R"({"rope_scaling": {"mscale": 0.5, "mscale_all_dim": 0.5}})", R"({"norm_topk_prob": false})",
        R"({"rope_scaling": null})", R"({"indexer_rope_interleave": true})", R"({"index_topk_freq": 2})"}) {
    EXPECT_NE(CanonicalText(*ParseModelConfig(Patched(patch), "c", defects)), published) << patch;
  }
  EXPECT_EQ(CanonicalText(*ParseModelConfig(Patched(R"({"use_cache": false})"), "c", defects)), published);
}

}  // namespace
}  // namespace sluice::checkpoint
