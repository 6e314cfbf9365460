#include "checkpoint/presets.h"

#include <fmt/ranges.h>

#include <utility>

#include "base/error.h"

namespace sluice::checkpoint {
namespace {

using Values = std::vector<std::pair<const char*, nlohmann::json>>;

Values PublishedGlm() {
  return {{"num_hidden_layers", 78},
          {"first_k_dense_replace", 3},
          {"hidden_size", 6144},
          {"intermediate_size", 12288},
          {"moe_intermediate_size", 2048},
          {"num_attention_heads", 64},
          {"q_lora_rank", 2048},
          {"qk_nope_head_dim", 192},
          {"v_head_dim", 256},
          {"index_n_heads", 32},
          {"index_topk", 2048},
          {"n_routed_experts", 256},
          {"num_experts_per_tok", 8},
          {"vocab_size", 154880},
          {"num_nextn_predict_layers", 1}};
}

// Its depth, its widths per head and its kinds of layers.
Values NarrowGlm() {
  return {{"num_hidden_layers", 78},
          {"first_k_dense_replace", 3},
          {"hidden_size", 256},
          {"intermediate_size", 1024},
          {"moe_intermediate_size", 128},
          {"num_attention_heads", 8},
          {"q_lora_rank", 256},
          {"qk_nope_head_dim", 192},
          {"v_head_dim", 256},
          {"index_n_heads", 8},
          {"index_topk", 256},
          {"n_routed_experts", 16},
          {"num_experts_per_tok", 4},
          {"vocab_size", 2048},
          {"num_nextn_predict_layers", 1}};
}

const std::vector<std::pair<std::string, Values>>& Presets() {
  static const std::vector<std::pair<std::string, Values>> presets = {
      {"tiny",
       {{"num_hidden_layers", 4},
        {"first_k_dense_replace", 1},
        {"hidden_size", 256},
        {"intermediate_size", 512},
        {"moe_intermediate_size", 128},
        {"num_attention_heads", 8},
        {"q_lora_rank", 128},
        {"qk_nope_head_dim", 64},
        {"v_head_dim", 64},
        {"index_n_heads", 8},
        {"index_topk", 64},
        {"n_routed_experts", 16},
        {"n_group", 4},
        {"topk_group", 2},
        {"num_experts_per_tok", 4},
        {"vocab_size", 1024},
        {"num_nextn_predict_layers", 0}}},
      {"small",
       {{"num_hidden_layers", 6},
        {"first_k_dense_replace", 2},
        {"hidden_size", 512},
        {"intermediate_size", 1024},
        {"moe_intermediate_size", 256},
        {"num_attention_heads", 16},
        {"q_lora_rank", 256},
        {"qk_nope_head_dim", 128},
        {"v_head_dim", 128},
        {"index_n_heads", 16},
        {"index_topk", 256},
        {"n_routed_experts", 16},
        {"n_group", 4},
        {"topk_group", 2},
        {"num_experts_per_tok", 4},
        {"vocab_size", 2048},
        {"num_nextn_predict_layers", 0}}},
      {"v3.2-61",
       {{"num_hidden_layers", 61},
        {"first_k_dense_replace", 3},
        {"hidden_size", 256},
        {"intermediate_size", 1024},
        {"moe_intermediate_size", 128},
        {"num_attention_heads", 8},
        {"q_lora_rank", 256},
        {"qk_nope_head_dim", 128},
        {"v_head_dim", 128},
        {"index_n_heads", 8},
        {"index_topk", 256},
        {"n_routed_experts", 16},
        {"n_group", 8},
        {"topk_group", 4},
        {"num_experts_per_tok", 4},
        {"vocab_size", 2048},
        {"num_nextn_predict_layers", 1}}},
      {"v3.2",
       {{"num_hidden_layers", 61},
        {"first_k_dense_replace", 3},
        {"hidden_size", 7168},
        {"intermediate_size", 18432},
        {"moe_intermediate_size", 2048},
        {"num_attention_heads", 128},
        {"q_lora_rank", 1536},
        {"qk_nope_head_dim", 128},
        {"v_head_dim", 128},
        {"index_n_heads", 64},
        {"index_topk", 2048},
        {"n_routed_experts", 256},
        {"n_group", 8},
        {"topk_group", 4},
        {"num_experts_per_tok", 8},
        {"vocab_size", 129280},
        {"num_nextn_predict_layers", 1}}},
      {"glm-5-78", NarrowGlm()},
      {"glm-5.2-78", NarrowGlm()},
      {"glm-5", PublishedGlm()},
      {"glm-5.2", PublishedGlm()},
  };
  return presets;
}

// What every DeepSeek preset has in common with the published model.
nlohmann::json DeepSeekConfig() {
  return {
      {"architectures", {"DeepseekV32ForCausalLM"}},
      {"attention_bias", false},
      {"attention_dropout", 0.0},
      {"bos_token_id", 0},
      {"eos_token_id", 1},
      {"ep_size", 1},
      {"hidden_act", "silu"},
      {"index_head_dim", 128},
      {"indexer_rope_interleave", false},
      {"initializer_range", 0.02},
      {"kv_lora_rank", 512},
      {"max_position_embeddings", 163840},
      {"model_type", "deepseek_v32"},
      {"moe_layer_freq", 1},
      {"n_shared_experts", 1},
      {"norm_topk_prob", true},
      {"qk_rope_head_dim", 64},
      {"rms_norm_eps", 1e-6},
      {"rope_scaling",
       {{"beta_fast", 32},
        {"beta_slow", 1},
        {"factor", 40},
        {"mscale", 1.0},
        {"mscale_all_dim", 1.0},
        {"original_max_position_embeddings", 4096},
        {"type", "yarn"}}},
      {"rope_theta", 10000},
      {"routed_scaling_factor", 2.5},
      {"scoring_func", "sigmoid"},
      {"tie_word_embeddings", false},
      {"topk_method", "noaux_tc"},
      {"torch_dtype", "bfloat16"},
      {"use_cache", true},
  };
}

// What every GLM preset has in common with the published models; those of GLM-5.2 are longer and share
// selections.
nlohmann::json GlmConfig(bool is_5_2) {
  nlohmann::json config = DeepSeekConfig();
  config.erase("rope_scaling");
  config.erase("rope_theta");
  config.update(
      {{"architectures", {"GlmMoeDsaForCausalLM"}},
       {"model_type", "glm_moe_dsa"},
       // Of the byte tokenizer: <|endoftext|>, <|user|>, <|observation|>.
       {"eos_token_id", {0, 7, 9}},
       {"indexer_rope_interleave", true},
       {"rope_interleave", true},
       {"max_position_embeddings", is_5_2 ? 1048576 : 202752},
       {"moe_router_dtype", "float32"},
       {"n_group", 1},
       {"topk_group", 1},
       {"rms_norm_eps", 1e-5},
       {"rope_parameters", {{"rope_theta", is_5_2 ? 8000000 : 1000000}, {"rope_type", "default"}}}});
  if (is_5_2) {
    config.update({{"index_topk_freq", 4}, {"index_skip_topk_offset", 3}, {"index_topk_pattern", nullptr}});
  }
  return config;
}

nlohmann::json FamilyConfig(const std::string& preset) {
  if (!preset.starts_with("glm-")) return DeepSeekConfig();
  return GlmConfig(preset.starts_with("glm-5.2"));
}

}  // namespace

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  names.reserve(Presets().size());
  for (const auto& [name, values] : Presets()) names.push_back(name);
  return names;
}

nlohmann::json PresetConfig(const std::string& name) {
  for (const auto& [preset, values] : Presets()) {
    if (preset != name) continue;
    nlohmann::json config = FamilyConfig(name);
    for (const auto& [key, value] : values) config[key] = value;
    config["num_key_value_heads"] = config["num_attention_heads"];
    return config;
  }
  Fail(ErrorKind::kUsage, "There is no preset \"{}\"; choose one of {}.", name,
       fmt::join(PresetNames(), ", "));
}

bool IsPublishedSize(const std::string& name) {
  return name == "v3.2" || name == "glm-5" || name == "glm-5.2";
}

void ApplyOverride(const std::string& override_text, nlohmann::json& config) {
  const size_t equals = override_text.find('=');
  if (equals == std::string::npos || equals == 0) {
    Fail(ErrorKind::kUsage, "The config override \"{}\" has no key and value; key=value is expected.",
         override_text);
  }
  const std::string path = override_text.substr(0, equals);
  const std::string text = override_text.substr(equals + 1);
  nlohmann::json* target = &config;
  for (size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = path.find('.', begin);
    const std::string key = path.substr(begin, end == std::string::npos ? end : end - begin);
    if (!target->is_object() || !target->contains(key)) {
      Fail(ErrorKind::kUsage,
           "The config override \"{}\" names \"{}\", which the preset's config does not have.", override_text,
           path);
    }
    target = &(*target)[key];
  }
  const nlohmann::json value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  *target = value.is_discarded() ? nlohmann::json(text) : value;
  if (path == "num_attention_heads") config["num_key_value_heads"] = *target;
}

}  // namespace sluice::checkpoint
