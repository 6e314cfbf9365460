#include "model/weights.h"

#include <fmt/format.h>

#include "checkpoint/tensor_map.h"

namespace sluice::model {
namespace {

using checkpoint::kScaleBlock;

// Rows [begin, end) of a stored matrix. FP8 rows must start on a scale block.
ops::RawMatrix RowsOf(const checkpoint::Checkpoint& checkpoint, const std::string& name, int64_t begin,
                      int64_t end) {
  const checkpoint::StoredTensor stored = checkpoint.Get(name);
  const int64_t cols = stored.shape[1];
  ops::RawMatrix raw{stored.dtype, end - begin, cols, stored.data + begin * cols * SizeOf(stored.dtype),
                     nullptr};
  if (stored.dtype == DType::kF8E4M3) {
    SLUICE_CHECK(begin % kScaleBlock == 0, "FP8 rows are cut at scale blocks");
    const auto scales = checkpoint.Get(checkpoint::ScaleName(name));
    raw.scales = reinterpret_cast<const float*>(scales.data) + begin / kScaleBlock * scales.shape[1];
  }
  return raw;
}

ops::RawMatrix Whole(const checkpoint::Checkpoint& checkpoint, const std::string& name) {
  return RowsOf(checkpoint, name, 0, checkpoint.Get(name).shape[0]);
}

float ValueAt(const ops::RawMatrix& raw, int64_t row, int64_t col) {
  const Tensor view{const_cast<void*>(raw.data), raw.dtype, raw.rows, raw.cols, raw.cols};
  const float value = LoadFloat(view, row, col);
  if (raw.scales == nullptr) return value;
  const int64_t blocks_across = (raw.cols + kScaleBlock - 1) / kScaleBlock;
  return value * raw.scales[row / kScaleBlock * blocks_across + col / kScaleBlock];
}

class Loader {
 public:
  Loader(const checkpoint::Checkpoint& checkpoint, ops::Ops& ops) : checkpoint_(checkpoint), ops_(ops) {}

  WeightPtr Linear(const std::string& name) const { return ops_.Pack(Whole(checkpoint_, name)); }

  OwnedTensor Vector(const std::string& name) const {
    const auto stored = checkpoint_.Get(name);
    OwnedTensor vector(DType::kF32, 1, stored.shape[0]);
    const Tensor view{const_cast<std::byte*>(stored.data), stored.dtype, 1, stored.shape[0], stored.shape[0]};
    for (int64_t i = 0; i < view.cols; ++i) vector.view().At<float>(0, i) = LoadFloat(view, 0, i);
    return vector;
  }

  // Rows [begin, end) of a table, in the activation type.
  OwnedTensor Table(const std::string& name, const VocabularyRange& rows) const {
    const ops::RawMatrix raw = RowsOf(checkpoint_, name, rows.begin, rows.end);
    OwnedTensor table(ops::ActivationType(ops_.numerics()), raw.rows, raw.cols);
    for (int64_t r = 0; r < raw.rows; ++r) {
      for (int64_t c = 0; c < raw.cols; ++c) StoreFloat(table, r, c, ValueAt(raw, r, c));
    }
    return table;
  }

  MlpWeights Mlp(const std::string& prefix) const {
    return {Linear(prefix + "gate_proj.weight"), Linear(prefix + "up_proj.weight"),
            Linear(prefix + "down_proj.weight")};
  }

  AttentionWeights Attention(const std::string& prefix, const checkpoint::ModelConfig& config) const {
    AttentionWeights weights;
    weights.q_a_proj = Linear(prefix + "q_a_proj.weight");
    weights.q_a_layernorm = Vector(prefix + "q_a_layernorm.weight");
    weights.q_b_proj = Linear(prefix + "q_b_proj.weight");
    weights.kv_a_proj_with_mqa = Linear(prefix + "kv_a_proj_with_mqa.weight");
    weights.kv_a_layernorm = Vector(prefix + "kv_a_layernorm.weight");
    weights.o_proj = Linear(prefix + "o_proj.weight");

    // kv_b_proj holds per head `nope` rows of W_uk, then `value` rows of W_uv. It is dequantised before the
    // split: a head's rows need not align with the scale blocks.
    const ops::RawMatrix kv_b = Whole(checkpoint_, prefix + "kv_b_proj.weight");
    const int64_t nope = config.qk_nope_head_dim;
    const int64_t value = config.v_head_dim;
    const int64_t latent = config.kv_lora_rank;
    std::vector<float> up_key(latent * nope);
    std::vector<float> up_value(value * latent);
    for (int64_t head = 0; head < config.num_attention_heads; ++head) {
      const int64_t first_row = head * (nope + value);
      for (int64_t l = 0; l < latent; ++l) {
        for (int64_t n = 0; n < nope; ++n) up_key[l * nope + n] = ValueAt(kv_b, first_row + n, l);
        for (int64_t v = 0; v < value; ++v) up_value[v * latent + l] = ValueAt(kv_b, first_row + nope + v, l);
      }
      weights.up_keys.push_back(ops_.Pack({DType::kF32, latent, nope, up_key.data(), nullptr}));
      weights.up_values.push_back(ops_.Pack({DType::kF32, value, latent, up_value.data(), nullptr}));
    }
    return weights;
  }

  IndexerWeights Indexer(const std::string& prefix) const {
    return {Linear(prefix + "wq_b.weight"), Linear(prefix + "wk.weight"), Vector(prefix + "k_norm.weight"),
            Vector(prefix + "k_norm.bias"), Linear(prefix + "weights_proj.weight")};
  }

  MoeWeights Moe(const std::string& prefix, const checkpoint::ModelConfig& config, int lane,
                 int lanes) const {
    MoeWeights weights;
    weights.gate = Linear(prefix + "gate.weight");
    weights.e_score_correction_bias = Vector(prefix + "gate.e_score_correction_bias");
    const ExpertTree tree(config.n_routed_experts);
    const auto [first_leaf, end_leaf] = tree.Owned(lane, lanes);
    const auto [first, end] = tree.ExpertsOf(first_leaf, end_leaf);
    weights.first_expert = first;
    for (int64_t e = first; e < end; ++e)
      weights.experts.push_back(Mlp(fmt::format("{}experts.{}.", prefix, e)));
    if (config.n_shared_experts > 0) weights.shared_experts = Mlp(prefix + "shared_experts.");
    return weights;
  }

 private:
  const checkpoint::Checkpoint& checkpoint_;
  ops::Ops& ops_;
};

}  // namespace

StageWeights LoadStage(const checkpoint::Checkpoint& checkpoint, ops::Ops& ops, const StageSlice& slice) {
  const auto& config = checkpoint.config();
  const Loader load(checkpoint, ops);
  const VocabularyRange vocabulary = VocabularyOf(config.vocab_size, slice.lane, slice.lanes);
  StageWeights weights;
  if (slice.first) weights.embed_tokens = load.Table("model.embed_tokens.weight", vocabulary);
  for (int64_t layer = slice.layers.begin; layer < slice.layers.end; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    LayerWeights& into = weights.layers.emplace_back();
    into.input_layernorm = load.Vector(prefix + "input_layernorm.weight");
    into.attention = load.Attention(prefix + "self_attn.", config);
    into.indexer = load.Indexer(prefix + "self_attn.indexer.");
    into.post_attention_layernorm = load.Vector(prefix + "post_attention_layernorm.weight");
    if (config.IsDense(layer)) {
      into.mlp = load.Mlp(prefix + "mlp.");
    } else {
      into.moe = load.Moe(prefix + "mlp.", config, slice.lane, slice.lanes);
    }
  }
  if (slice.last) {
    weights.norm = load.Vector("model.norm.weight");
    weights.lm_head = ops.Pack(RowsOf(checkpoint, "lm_head.weight", vocabulary.begin, vocabulary.end));
  }
  return weights;
}

}  // namespace sluice::model
