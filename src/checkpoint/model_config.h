#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/defects.h"

namespace sluice::checkpoint {

// The rotary part of a config: plain frequencies, or YaRN (rope_scaling of type "yarn").
struct RopeConfig {
  double theta = 10000.0;
  bool yarn = false;
  double factor = 1.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 1.0;
  double mscale_all_dim = 0.0;
  int64_t original_max_position_embeddings = 0;
};

// What config.json says, checked: every size positive, within limits, and consistent. Names are the file's
// own.
struct ModelConfig {
  std::string architecture;  // "DeepseekV32ForCausalLM" or "GlmMoeDsaForCausalLM"
  std::string model_type;    // "deepseek_v32" or "glm_moe_dsa"
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t first_k_dense_replace = 0;  // layers [0, this) have a dense MLP, the rest experts
  int64_t intermediate_size = 0;
  int64_t moe_intermediate_size = 0;
  int64_t n_routed_experts = 0;
  int64_t n_shared_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t n_group = 1;
  int64_t topk_group = 1;
  double routed_scaling_factor = 1.0;
  bool norm_topk_prob = true;
  int64_t num_attention_heads = 0;
  int64_t q_lora_rank = 0;
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;
  int64_t index_n_heads = 0;
  int64_t index_head_dim = 0;
  int64_t index_topk = 0;
  bool indexer_rope_interleave = false;
  // Layers without an indexer ("shared"): they attend to the keys that the nearest layer before them with one
  // ("full") has selected. By layer, the first never; empty: no layer is.
  std::vector<bool> shares_selection;
  double rms_norm_eps = 1e-6;
  RopeConfig rope;
  int64_t max_position_embeddings = 0;
  int64_t num_nextn_predict_layers = 0;
  std::vector<int64_t> eos_token_ids;
  int64_t bos_token_id = 0;

  bool IsDense(int64_t layer) const { return layer < first_k_dense_replace; }
  // Whether a layer has an indexer, and so tensors and a cache for it. Nextn layers may.
  bool HasIndexer(int64_t layer) const {
    return layer >= static_cast<int64_t>(shares_selection.size()) || !shares_selection[layer];
  }
  // Of layers [begin, end), those that have one.
  int64_t IndexersIn(int64_t begin, int64_t end) const;
};

// Reads DIR/config.json. Throws Error(kModelFiles) naming the file, the key, what was found and what would
// be right: an unknown architecture, a missing key, a value of the wrong type or out of range, sizes that do
// not fit each other, a feature that is not built (attention_bias, tied embeddings, other scoring functions).
ModelConfig ReadModelConfig(const std::filesystem::path& directory);

// The same without throwing: adds every defect; nullopt iff any was found.
std::optional<ModelConfig> CheckModelConfig(const std::filesystem::path& directory, Defects& defects);

// The same for the text of a config.json; `where` begins each sentence.
std::optional<ModelConfig> ParseModelConfig(std::string_view text, const std::string& where,
                                            Defects& defects);

// Every field in a fixed order, "name=value" lines with doubles in hexadecimal: equal configs, equal texts.
std::string CanonicalText(const ModelConfig& config);

}  // namespace sluice::checkpoint
