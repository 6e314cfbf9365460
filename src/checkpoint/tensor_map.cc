#include "checkpoint/tensor_map.h"

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"

namespace sluice::checkpoint {
namespace {

using Kind = TensorKind;

void AddMlp(std::vector<TensorSpec>& out, const std::string& prefix, int64_t hidden, int64_t intermediate) {
  out.push_back({prefix + "gate_proj.weight", Kind::kLinear, {intermediate, hidden}});
  out.push_back({prefix + "up_proj.weight", Kind::kLinear, {intermediate, hidden}});
  out.push_back({prefix + "down_proj.weight", Kind::kLinear, {hidden, intermediate}});
}

void AddAttention(std::vector<TensorSpec>& out, const std::string& layer, const ModelConfig& c,
                  bool has_indexer) {
  const std::string attention = layer + "self_attn.";
  const std::string indexer = attention + "indexer.";
  const int64_t heads = c.num_attention_heads;
  const int64_t query = c.qk_nope_head_dim + c.qk_rope_head_dim;
  out.push_back({attention + "q_a_proj.weight", Kind::kLinear, {c.q_lora_rank, c.hidden_size}});
  out.push_back({attention + "q_a_layernorm.weight", Kind::kNorm, {c.q_lora_rank}});
  out.push_back({attention + "q_b_proj.weight", Kind::kLinear, {heads * query, c.q_lora_rank}});
  out.push_back({attention + "kv_a_proj_with_mqa.weight",
                 Kind::kLinear,
                 {c.kv_lora_rank + c.qk_rope_head_dim, c.hidden_size}});
  out.push_back({attention + "kv_a_layernorm.weight", Kind::kNorm, {c.kv_lora_rank}});
  out.push_back({attention + "kv_b_proj.weight",
                 Kind::kLinear,
                 {heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank}});
  out.push_back({attention + "o_proj.weight", Kind::kLinear, {c.hidden_size, heads * c.v_head_dim}});
  if (!has_indexer) return;
  out.push_back(
      {indexer + "wq_b.weight", Kind::kLinear, {c.index_n_heads * c.index_head_dim, c.q_lora_rank}});
  out.push_back({indexer + "wk.weight", Kind::kLinear, {c.index_head_dim, c.hidden_size}});
  out.push_back({indexer + "k_norm.weight", Kind::kNorm, {c.index_head_dim}});
  out.push_back({indexer + "k_norm.bias", Kind::kNormBias, {c.index_head_dim}});
  out.push_back({indexer + "weights_proj.weight", Kind::kKeptLinear, {c.index_n_heads, c.hidden_size}});
}

void AddExperts(std::vector<TensorSpec>& out, const std::string& layer, const ModelConfig& c, int64_t begin,
                int64_t end) {
  const std::string mlp = layer + "mlp.";
  out.push_back({mlp + "gate.weight", Kind::kKeptLinear, {c.n_routed_experts, c.hidden_size}});
  out.push_back({mlp + "gate.e_score_correction_bias", Kind::kRouterBias, {c.n_routed_experts}});
  AddMlp(out, mlp + "shared_experts.", c.hidden_size, c.n_shared_experts * c.moe_intermediate_size);
  for (int64_t expert = begin; expert < end; ++expert) {
    AddMlp(out, fmt::format("{}experts.{}.", mlp, expert), c.hidden_size, c.moe_intermediate_size);
  }
}

}  // namespace

std::string LayerPrefix(int64_t layer) { return fmt::format("model.layers.{}.", layer); }

bool IsScaleName(const std::string& name) { return name.ends_with(kScaleSuffix); }

std::vector<int64_t> ScaleShape(const std::vector<int64_t>& shape) {
  std::vector<int64_t> blocks;
  blocks.reserve(shape.size());
  for (const int64_t extent : shape) blocks.push_back(CeilDiv(extent, kScaleBlock));
  return blocks;
}

bool MayHaveDType(TensorKind kind, DType dtype) {
  if (dtype == DType::kF8E4M3) return kind == TensorKind::kLinear;
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

ModelPart WholeModel(const ModelConfig& config) {
  return {0, config.num_hidden_layers, 0, config.n_routed_experts, true, true};
}

std::vector<TensorSpec> TensorsOf(const ModelConfig& config, const ModelPart& part) {
  SLUICE_CHECK(0 <= part.layer_begin && part.layer_begin <= part.layer_end &&
               part.layer_end <= config.num_hidden_layers);
  SLUICE_CHECK(0 <= part.expert_begin && part.expert_begin <= part.expert_end &&
               part.expert_end <= config.n_routed_experts);
  std::vector<TensorSpec> out;
  if (part.embedding) {
    out.push_back({"model.embed_tokens.weight", Kind::kEmbedding, {config.vocab_size, config.hidden_size}});
  }
  for (int64_t index = part.layer_begin; index < part.layer_end; ++index) {
    const std::string layer = LayerPrefix(index);
    out.push_back({layer + "input_layernorm.weight", Kind::kNorm, {config.hidden_size}});
    AddAttention(out, layer, config, config.HasIndexer(index));
    out.push_back({layer + "post_attention_layernorm.weight", Kind::kNorm, {config.hidden_size}});
    if (config.IsDense(index)) {
      AddMlp(out, layer + "mlp.", config.hidden_size, config.intermediate_size);
    } else {
      AddExperts(out, layer, config, part.expert_begin, part.expert_end);
    }
  }
  if (part.head) {
    out.push_back({"model.norm.weight", Kind::kNorm, {config.hidden_size}});
    out.push_back({"lm_head.weight", Kind::kKeptLinear, {config.vocab_size, config.hidden_size}});
  }
  return out;
}

std::vector<TensorSpec> NextnTensors(const ModelConfig& config) {
  return NextnTensors(config, 0, config.n_routed_experts);
}

std::vector<TensorSpec> NextnTensors(const ModelConfig& config, int64_t expert_begin, int64_t expert_end) {
  const int64_t hidden = config.hidden_size;
  std::vector<TensorSpec> out;
  for (int64_t i = 0; i < config.num_nextn_predict_layers; ++i) {
    const std::string layer = LayerPrefix(config.num_hidden_layers + i);
    out.push_back({layer + "embed_tokens.weight", Kind::kEmbedding, {config.vocab_size, hidden}});
    out.push_back({layer + "enorm.weight", Kind::kNorm, {hidden}});
    out.push_back({layer + "hnorm.weight", Kind::kNorm, {hidden}});
    out.push_back({layer + "eh_proj.weight", Kind::kKeptLinear, {hidden, 2 * hidden}});
    out.push_back({layer + "input_layernorm.weight", Kind::kNorm, {hidden}});
    AddAttention(out, layer, config, /*has_indexer=*/true);
    out.push_back({layer + "post_attention_layernorm.weight", Kind::kNorm, {hidden}});
    AddExperts(out, layer, config, expert_begin, expert_end);
    out.push_back({layer + "shared_head.norm.weight", Kind::kNorm, {hidden}});
    out.push_back({layer + "shared_head.head.weight", Kind::kKeptLinear, {config.vocab_size, hidden}});
  }
  return out;
}

}  // namespace sluice::checkpoint
