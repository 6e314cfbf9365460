#include "checkpoint/model_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>

#include "base/error.h"
#include "checkpoint/config_reader.h"
#include "checkpoint/config_sections.h"
#include "checkpoint/json_file.h"

namespace sluice::checkpoint {
namespace {

// The families: one forward pass, other sizes and defaults.
struct Architecture {
  const char* name;
  const char* model_type;
  bool indexer_rope_interleave;  // where config.json does not say, as of Transformers' configs
};
constexpr Architecture kArchitectures[] = {{"DeepseekV32ForCausalLM", "deepseek_v32", false},
                                           {"GlmMoeDsaForCausalLM", "glm_moe_dsa", true}};

// Required sizes with their limits. The upper limits lie far above any published model; they keep products of
// sizes and the number of tensors (layers x experts) small enough to list.
struct SizeKey {
  const char* key;
  int64_t ModelConfig::*member;
  int64_t least;
  int64_t most;
};
constexpr SizeKey kSizes[] = {
    {"vocab_size", &ModelConfig::vocab_size, 1, 4'194'304},
    {"hidden_size", &ModelConfig::hidden_size, 1, 65'536},
    {"num_hidden_layers", &ModelConfig::num_hidden_layers, 1, 256},
    {"first_k_dense_replace", &ModelConfig::first_k_dense_replace, 0, 256},
    {"intermediate_size", &ModelConfig::intermediate_size, 1, 1'048'576},
    {"moe_intermediate_size", &ModelConfig::moe_intermediate_size, 1, 65'536},
    {"n_routed_experts", &ModelConfig::n_routed_experts, 1, 1024},
    {"n_shared_experts", &ModelConfig::n_shared_experts, 1, 64},
    {"num_experts_per_tok", &ModelConfig::num_experts_per_tok, 1, 1024},
    {"n_group", &ModelConfig::n_group, 1, 1024},
    {"topk_group", &ModelConfig::topk_group, 1, 1024},
    {"num_attention_heads", &ModelConfig::num_attention_heads, 1, 1024},
    {"q_lora_rank", &ModelConfig::q_lora_rank, 1, 65'536},
    {"kv_lora_rank", &ModelConfig::kv_lora_rank, 1, 65'536},
    {"qk_nope_head_dim", &ModelConfig::qk_nope_head_dim, 1, 4096},
    {"qk_rope_head_dim", &ModelConfig::qk_rope_head_dim, 2, 4096},
    {"v_head_dim", &ModelConfig::v_head_dim, 1, 4096},
    {"index_n_heads", &ModelConfig::index_n_heads, 1, 1024},
    {"index_head_dim", &ModelConfig::index_head_dim, 1, 4096},
    {"index_topk", &ModelConfig::index_topk, 1, 65'536},
    {"max_position_embeddings", &ModelConfig::max_position_embeddings, 1, 16'777'216},
};

void CheckArchitecture(ConfigReader& reader, ModelConfig& config) {
  const nlohmann::json names = reader.Has("architectures") ? reader.At("architectures") : nlohmann::json();
  for (const Architecture& known : kArchitectures) {
    if (names != nlohmann::json::array({known.name})) continue;
    config.architecture = known.name;
    config.model_type = known.model_type;
    config.indexer_rope_interleave = known.indexer_rope_interleave;
    reader.OnlyIfPresent("model_type", known.model_type);
    return;
  }
  reader.Defect("architectures", names.is_null() ? "missing" : ShownJson(names),
                fmt::format("[\"{}\"] or [\"{}\"]", kArchitectures[0].name, kArchitectures[1].name));
}

// Keys that name a variation of the model of which sluice computes one form.
void CheckFixedForms(ConfigReader& reader, const ModelConfig& config) {
  reader.OnlyIfPresent("scoring_func", "sigmoid");
  reader.OnlyIfPresent("topk_method", "noaux_tc");
  reader.OnlyIfPresent("hidden_act", "silu");
  reader.OnlyIfPresent("moe_layer_freq", 1);
  reader.OnlyIfPresent("attention_bias", false);
  reader.OnlyIfPresent("mlp_bias", false);
  reader.OnlyIfPresent("tie_word_embeddings", false);
  reader.OnlyIfPresent("rope_interleave", true);
  reader.OnlyIfPresent("moe_router_dtype", "float32");
  reader.OnlyIfPresent("num_key_value_heads", config.num_attention_heads);
  reader.OnlyIfPresent("qk_head_dim", config.qk_nope_head_dim + config.qk_rope_head_dim);
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (!reader.Has(key)) continue;
    const auto& value = reader.At(key);
    if (value != "bfloat16" && value != "float16" && value != "float32") {
      reader.Defect(key, ShownJson(value), "\"bfloat16\", \"float16\" or \"float32\"");
    }
  }
  if (reader.Has("torch_dtype") && reader.Has("dtype") && reader.At("torch_dtype") != reader.At("dtype")) {
    reader.Defect("dtype", ShownJson(reader.At("dtype")),
                  fmt::format("{} as \"torch_dtype\" says", ShownJson(reader.At("torch_dtype"))));
  }
}

// Without "first_k_dense_replace": how many layers "mlp_layer_types" calls "dense" before another. That those
// after them are not is CheckLayerLists' matter.
std::optional<int64_t> DenseLayersListed(ConfigReader& reader) {
  if (!reader.Has("mlp_layer_types") || !reader.At("mlp_layer_types").is_array()) return std::nullopt;
  int64_t dense = 0;
  for (const auto& type : reader.At("mlp_layer_types")) {
    if (type != "dense") break;
    ++dense;
  }
  return dense;
}

// Lists with one word per layer: each must describe the schedule that the sizes describe.
void CheckLayerLists(ConfigReader& reader, const ModelConfig& config) {
  const auto check = [&](const char* key, const auto& expected_at) {
    if (!reader.Has(key)) return;
    const auto& list = reader.At(key);
    const auto layers = static_cast<size_t>(config.num_hidden_layers);
    if (!list.is_array() || list.size() != layers) {
      reader.Defect(key, ShownJson(list), fmt::format("a list of {} strings, one per layer", layers));
      return;
    }
    for (size_t layer = 0; layer < layers; ++layer) {
      const char* expected = expected_at(static_cast<int64_t>(layer));
      if (list[layer] == expected) continue;
      reader.Defect(key, fmt::format("{} for layer {}", ShownJson(list[layer]), layer),
                    fmt::format("\"{}\"", expected));
      return;
    }
  };
  // Transformers has called what every layer has by two names.
  const bool is_new = reader.Has("layer_types") && reader.At("layer_types").is_array() &&
                      !reader.At("layer_types").empty() &&
                      reader.At("layer_types").front() == "indexed_attention";
  check("layer_types", [&](int64_t) { return is_new ? "indexed_attention" : "deepseek_sparse_attention"; });
  check("mlp_layer_types", [&](int64_t layer) { return config.IsDense(layer) ? "dense" : "sparse"; });
}

// Sizes that must fit each other. Only called when each of them is right by itself.
void CheckRelations(ConfigReader& reader, const ModelConfig& config) {
  if (config.first_k_dense_replace > config.num_hidden_layers) {
    reader.Defect("first_k_dense_replace", fmt::to_string(config.first_k_dense_replace),
                  fmt::format("at most num_hidden_layers, {}", config.num_hidden_layers));
  }
  if (config.n_routed_experts % config.n_group != 0) {
    reader.Defect("n_group", fmt::to_string(config.n_group),
                  fmt::format("a divisor of n_routed_experts, {}", config.n_routed_experts));
  } else if (config.n_group > 1 && config.n_routed_experts / config.n_group < 2) {
    reader.Defect(
        "n_group", fmt::to_string(config.n_group),
        fmt::format("at least 2 experts per group (n_routed_experts is {}), since a group is scored "
                    "by its two best",
                    config.n_routed_experts));
  } else if (config.topk_group > config.n_group) {
    reader.Defect("topk_group", fmt::to_string(config.topk_group),
                  fmt::format("at most n_group, {}", config.n_group));
  } else if (const int64_t eligible = config.topk_group * (config.n_routed_experts / config.n_group);
             config.num_experts_per_tok > eligible) {
    reader.Defect("num_experts_per_tok", fmt::to_string(config.num_experts_per_tok),
                  fmt::format("at most {}, the experts in the {} kept groups", eligible, config.topk_group));
  }
  if (config.qk_rope_head_dim % 2 != 0) {
    reader.Defect("qk_rope_head_dim", fmt::to_string(config.qk_rope_head_dim),
                  "an even number, since rotary embedding turns pairs");
  }
  if (!std::has_single_bit(static_cast<uint64_t>(config.index_head_dim))) {
    reader.Defect("index_head_dim", fmt::to_string(config.index_head_dim),
                  "a power of two, as the Hadamard transform needs");
  } else if (config.index_head_dim < config.qk_rope_head_dim) {
    reader.Defect("index_head_dim", fmt::to_string(config.index_head_dim),
                  fmt::format("at least qk_rope_head_dim, {}", config.qk_rope_head_dim));
  }
}

void ReadTokenIds(ConfigReader& reader, ModelConfig& config) {
  const auto is_id = [&](const nlohmann::json& value) {
    return value.is_number_unsigned() && value.get<uint64_t>() < static_cast<uint64_t>(config.vocab_size);
  };
  const std::string right =
      fmt::format("a token id below vocab_size, {}, or a list of them", config.vocab_size);
  config.bos_token_id = reader.IntegerOr("bos_token_id", 0, 0, config.vocab_size - 1);
  if (!reader.Has("eos_token_id")) {
    reader.Defect("eos_token_id", "missing", right);
    return;
  }
  const auto& eos = reader.At("eos_token_id");
  const nlohmann::json list = eos.is_array() ? eos : nlohmann::json::array({eos});
  config.eos_token_ids.reserve(list.size());
  for (const auto& id : list) {
    if (!is_id(id)) {
      reader.Defect("eos_token_id", ShownJson(eos), right);
      return;
    }
    config.eos_token_ids.push_back(id.get<int64_t>());
  }
  if (list.empty()) reader.Defect("eos_token_id", "[]", right);
}

}  // namespace

std::optional<ModelConfig> ParseModelConfig(std::string_view text, const std::string& where,
                                            Defects& defects) {
  const std::optional<nlohmann::json> object = ParseJsonObject(text, where, defects);
  if (!object) return std::nullopt;
  const size_t defects_before = defects.sentences().size();
  ConfigReader reader(*object, where, "", defects);
  ModelConfig config;
  CheckArchitecture(reader, config);
  // The sizes of another architecture would only bury the one sentence that matters.
  if (defects.sentences().size() != defects_before) return std::nullopt;

  for (const SizeKey& size : kSizes) {
    const auto implied = size.member == &ModelConfig::first_k_dense_replace && !reader.Has(size.key)
                             ? DenseLayersListed(reader)
                             : std::nullopt;
    config.*size.member = implied ? *implied : reader.Integer(size.key, size.least, size.most);
  }
  const bool sizes_are_right = defects.sentences().size() == defects_before;
  config.num_nextn_predict_layers = reader.IntegerOr("num_nextn_predict_layers", 0, 0, 16);
  config.routed_scaling_factor = reader.Number("routed_scaling_factor", 1e-6, 1e6);
  config.norm_topk_prob = reader.BoolOr("norm_topk_prob", true);
  config.indexer_rope_interleave = reader.BoolOr("indexer_rope_interleave", config.indexer_rope_interleave);
  config.rms_norm_eps = reader.Number("rms_norm_eps", 1e-12, 1e-1);
  config.rope = ReadRope(*object, reader);
  if (reader.Has("quantization_config")) CheckQuantization(reader.At("quantization_config"), reader);
  if (sizes_are_right) {
    CheckRelations(reader, config);
    CheckFixedForms(reader, config);
    config.shares_selection = ReadSharedIndexers(reader, config.num_hidden_layers);
    CheckLayerLists(reader, config);
    ReadTokenIds(reader, config);
  }
  if (defects.sentences().size() != defects_before) return std::nullopt;
  return config;
}

std::optional<ModelConfig> CheckModelConfig(const std::filesystem::path& directory, Defects& defects) {
  const std::filesystem::path file = directory / "config.json";
  const std::optional<std::string> text = ReadText(file, defects);
  if (!text) return std::nullopt;
  return ParseModelConfig(*text, file.string(), defects);
}

int64_t ModelConfig::IndexersIn(int64_t begin, int64_t end) const {
  int64_t count = 0;
  for (int64_t layer = begin; layer < end; ++layer) count += HasIndexer(layer) ? 1 : 0;
  return count;
}

ModelConfig ReadModelConfig(const std::filesystem::path& directory) {
  Defects defects;
  const std::optional<ModelConfig> config = CheckModelConfig(directory, defects);
  defects.ThrowFirst();
  return *config;
}

std::string CanonicalText(const ModelConfig& config) {
  std::string text = fmt::format("architecture={}\n", config.architecture);
  for (const SizeKey& size : kSizes) text += fmt::format("{}={}\n", size.key, config.*size.member);
  text += fmt::format("num_nextn_predict_layers={}\n", config.num_nextn_predict_layers);
  text += fmt::format("routed_scaling_factor={:a}\nnorm_topk_prob={}\nindexer_rope_interleave={}\n",
                      config.routed_scaling_factor, config.norm_topk_prob, config.indexer_rope_interleave);
  text += fmt::format("rms_norm_eps={:a} indexers=", config.rms_norm_eps);
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) text += config.HasIndexer(i) ? 'F' : 'S';
  text += '\n';
  const RopeConfig& rope = config.rope;
  text += fmt::format("rope={:a} {} {:a} {:a} {:a} {:a} {:a} {}\n", rope.theta, rope.yarn, rope.factor,
                      rope.beta_fast, rope.beta_slow, rope.mscale, rope.mscale_all_dim,
                      rope.original_max_position_embeddings);
  text += fmt::format("bos={} eos={}\n", config.bos_token_id, fmt::join(config.eos_token_ids, ","));
  return text;
}

}  // namespace sluice::checkpoint
