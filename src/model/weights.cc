#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <thread>

#include "base/checked.h"
#include "base/compute_pool.h"
#include "checkpoint/nextn.h"
#include "checkpoint/tensor_map.h"
#include "model/stored_matrix.h"
#include "ops/host_matrix.h"

namespace sluice::model {
namespace {

using checkpoint::kScaleBlock;

// Whether all gate and up projections of the experts below `prefix` are FP8 weights to a back end.
bool AreFp8Experts(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics,
                   const std::string& prefix) {
  if (numerics != ops::Numerics::kFp8) return false;
  for (int64_t e = 0; e < checkpoint.config().n_routed_experts; ++e) {
    for (const char* name : {"gate_proj", "up_proj"}) {
      const std::string weight = fmt::format("{}experts.{}.{}.weight", prefix, e, name);
      if (!checkpoint.Has(checkpoint::ScaleName(weight))) return false;
    }
  }
  return true;
}

// kv_b_proj of some heads, absorbed.
struct UpWeights {
  std::unique_ptr<ops::WeightGroup> keys;    // per head W_uk^T [latent, nope]
  std::unique_ptr<ops::WeightGroup> values;  // per head W_uv [value, latent]
};

class Loader {
 public:
  Loader(const checkpoint::Checkpoint& checkpoint, ops::Ops& ops, WeightStore* shared)
      : checkpoint_(checkpoint),
        ops_(ops),
        shared_(shared),
        pool_(static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 64U)) - 1) {}

  WeightPtr Linear(const std::string& name) const { return Rows(name, 0, checkpoint_.Get(name).shape[0]); }

  // Rows [begin, end) of a matrix.
  WeightPtr Rows(const std::string& name, int64_t begin, int64_t end) const {
    return Once<ops::Weight>(WeightKey(name, begin, end, 0, checkpoint_.Get(name).shape[1]), [&] {
      auto packed = ops_.Pack(StoredRows(checkpoint_, name, begin, end));
      checkpoint_.ReleasePages(name);
      return packed;
    });
  }

  // Columns [begin, end) of a matrix.
  WeightPtr Columns(const std::string& name, int64_t begin, int64_t end) const {
    return Once<ops::Weight>(WeightKey(name, 0, checkpoint_.Get(name).shape[0], begin, end), [&] {
      const StoredColumns columns(checkpoint_, name, begin, end);
      checkpoint_.ReleasePages(name);
      return ops_.Pack(columns.raw());
    });
  }

  OwnedTensor Vector(const std::string& name) const {
    const auto stored = checkpoint_.Get(name);
    const ops::HostMatrix host(stored.random
                                   ? ops::RawOf(*stored.random)
                                   : ops::RawMatrix{stored.dtype, 1, stored.shape[0], stored.data, nullptr},
                               pool_);
    OwnedTensor vector(DType::kF32, 1, stored.shape[0]);
    for (int64_t i = 0; i < stored.shape[0]; ++i) vector.view().At<float>(0, i) = ValueAt(host.raw(), 0, i);
    checkpoint_.ReleasePages(name);
    return Placed(std::move(vector));
  }

  // Rows [begin, end) of a table, in the activation type.
  OwnedTensor Table(const std::string& name, const VocabularyRange& rows) const {
    const ops::HostMatrix host(StoredRows(checkpoint_, name, rows.begin, rows.end), pool_);
    const ops::RawMatrix& raw = host.raw();
    OwnedTensor table(ops::ActivationType(ops_.numerics()), raw.rows, raw.cols);
    pool_.ParallelFor(raw.rows, [&](int64_t r) {
      for (int64_t c = 0; c < raw.cols; ++c) StoreFloat(table, r, c, ValueAt(raw, r, c));
    });
    checkpoint_.ReleasePages(name);
    return Placed(std::move(table));
  }

  MlpWeights Mlp(const std::string& prefix) const {
    return {Linear(prefix + "gate_proj.weight"), Linear(prefix + "up_proj.weight"),
            Linear(prefix + "down_proj.weight")};
  }

  // Rows of gate and up and columns of down: this lane's part of the intermediate width.
  MlpWeights SplitMlp(const std::string& prefix, int64_t begin, int64_t end) const {
    return {Rows(prefix + "gate_proj.weight", begin, end), Rows(prefix + "up_proj.weight", begin, end),
            Columns(prefix + "down_proj.weight", begin, end)};
  }

  // The heads of shard `shard` of `shards`.
  AttentionWeights Attention(const std::string& prefix, const checkpoint::ModelConfig& config, int shard,
                             int shards) const {
    const int64_t heads = config.num_attention_heads / shards;
    const int64_t first = shard * heads;
    const int64_t query = config.qk_nope_head_dim + config.qk_rope_head_dim;
    AttentionWeights weights;
    weights.q_a_proj = Linear(prefix + "q_a_proj.weight");
    weights.q_a_layernorm = Vector(prefix + "q_a_layernorm.weight");
    weights.q_b_proj = Rows(prefix + "q_b_proj.weight", first * query, (first + heads) * query);
    weights.kv_a_proj_with_mqa = Linear(prefix + "kv_a_proj_with_mqa.weight");
    weights.kv_a_layernorm = Vector(prefix + "kv_a_layernorm.weight");
    const int64_t value = config.v_head_dim;
    weights.o_proj = shards == 1 ? Linear(prefix + "o_proj.weight")
                                 : Columns(prefix + "o_proj.weight", first * value, (first + heads) * value);
    const std::string kv_b = prefix + "kv_b_proj.weight";
    const int64_t rows = config.qk_nope_head_dim + value;
    const auto up =
        Once<UpWeights>(WeightKey(kv_b, first * rows, (first + heads) * rows, 0, config.kv_lora_rank),
                        [&] { return std::make_unique<UpWeights>(Absorbed(kv_b, config, first, heads)); });
    weights.up_keys = WeightGroupPtr(up, up->keys.get());
    weights.up_values = WeightGroupPtr(up, up->values.get());
    return weights;
  }

  IndexerWeights Indexer(const std::string& prefix) const {
    return {Linear(prefix + "wq_b.weight"), Linear(prefix + "wk.weight"), Vector(prefix + "k_norm.weight"),
            Vector(prefix + "k_norm.bias"), Linear(prefix + "weights_proj.weight")};
  }

  MoeWeights Moe(const std::string& prefix, const checkpoint::ModelConfig& config, int lane,
                 int owners) const {
    MoeWeights weights;
    weights.gate = Linear(prefix + "gate.weight");
    weights.e_score_correction_bias = Vector(prefix + "gate.e_score_correction_bias");
    const ExpertTree tree(config.n_routed_experts, owners);
    const auto [first_leaf, end_leaf] = tree.Owned(lane);
    const auto [first, end] = tree.ExpertsOf(first_leaf, end_leaf);
    weights.first_expert = first;
    weights.fp8_experts = AreFp8Experts(checkpoint_, ops_.numerics(), prefix);
    const auto group = [&](const char* name) {
      std::vector<std::string> tensors;
      std::vector<ops::RawMatrix> raws;
      for (int64_t e = first; e < end; ++e) {
        tensors.push_back(fmt::format("{}experts.{}.{}.weight", prefix, e, name));
        raws.push_back(StoredMatrix(checkpoint_, tensors.back()));
      }
      auto packed = ops_.PackGroup(raws);
      for (const std::string& tensor : tensors) checkpoint_.ReleasePages(tensor);
      return packed;
    };
    if (end > first) weights.experts = {group("gate_proj"), group("up_proj"), group("down_proj")};
    if (config.n_shared_experts > 0) weights.shared_experts = Mlp(prefix + "shared_experts.");
    return weights;
  }

 private:
  // What `make` returns, or what another rank made of the same part.
  template <typename T>
  std::shared_ptr<const T> Once(const std::string& key,
                                const std::function<std::unique_ptr<T>()>& make) const {
    if (shared_ == nullptr) return make();
    return shared_->Get<T>(key, [&make]() -> std::shared_ptr<const T> { return make(); });
  }

  // kv_b_proj holds per head `nope` rows of W_uk, then `value` rows of W_uv. It is dequantised before the
  // split: a head's rows need not align with the scale blocks.
  UpWeights Absorbed(const std::string& kv_b_proj, const checkpoint::ModelConfig& config, int64_t first,
                     int64_t heads) const {
    const ops::HostMatrix stored(StoredMatrix(checkpoint_, kv_b_proj), pool_);
    const ops::RawMatrix& kv_b = stored.raw();
    const int64_t nope = config.qk_nope_head_dim;
    const int64_t value = config.v_head_dim;
    const int64_t latent = config.kv_lora_rank;
    const OwnedTensor up_keys(DType::kF32, heads * latent, nope);
    const OwnedTensor up_values(DType::kF32, heads * value, latent);
    std::vector<ops::RawMatrix> raw_keys(heads);
    std::vector<ops::RawMatrix> raw_values(heads);
    pool_.ParallelFor(heads, [&](int64_t head) {
      const int64_t first_row = (first + head) * (nope + value);
      auto* up_key = up_keys.view().Row<float>(head * latent);
      auto* up_value = up_values.view().Row<float>(head * value);
      for (int64_t l = 0; l < latent; ++l) {
        for (int64_t n = 0; n < nope; ++n) up_key[l * nope + n] = ValueAt(kv_b, first_row + n, l);
        for (int64_t v = 0; v < value; ++v) up_value[v * latent + l] = ValueAt(kv_b, first_row + nope + v, l);
      }
      raw_keys[head] = {DType::kF32, latent, nope, up_key, nullptr};
      raw_values[head] = {DType::kF32, value, latent, up_value, nullptr};
    });
    checkpoint_.ReleasePages(kv_b_proj);
    return {ops_.PackGroup(raw_keys), ops_.PackGroup(raw_values)};
  }

  // Where the ops read it.
  OwnedTensor Placed(OwnedTensor tensor) const {
    if (ops_.memory().OnHost()) return tensor;
    const Tensor& from = tensor.view();
    OwnedTensor placed(from.dtype, from.rows, from.cols, ops_.memory());
    ops_.memory().Copy(from.data, placed.view().data, from.bytes());
    return placed;
  }

  const checkpoint::Checkpoint& checkpoint_;
  ops::Ops& ops_;
  WeightStore* shared_;
  mutable ComputePool pool_;  // for what is converted or made on the host before the back end gets it
};

}  // namespace

std::vector<bool> Fp8Experts(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics) {
  const checkpoint::ModelConfig& config = checkpoint.config();
  std::vector<bool> fp8;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    fp8.push_back(config.IsDense(layer) ||
                  AreFp8Experts(checkpoint, numerics, fmt::format("model.layers.{}.mlp.", layer)));
  }
  return fp8;
}

ops::Forms FormsRead(const LayerWeights& layer) {
  ops::Forms forms = layer.attention.q_a_proj->reads() | layer.attention.kv_a_proj_with_mqa->reads();
  if (layer.indexer) forms = forms | layer.indexer->wk->reads() | layer.indexer->weights_proj->reads();
  const auto add = [&](const auto& gate, const auto& up) { forms = forms | gate->reads() | up->reads(); };
  if (layer.mlp) add(layer.mlp->gate_proj, layer.mlp->up_proj);
  if (!layer.moe) return forms;
  const MoeWeights& moe = *layer.moe;
  forms = forms | moe.gate->reads();
  if (moe.shared_experts) add(moe.shared_experts->gate_proj, moe.shared_experts->up_proj);
  if (moe.experts.count() > 0) add(moe.experts.gate_proj, moe.experts.up_proj);
  // The experts of other lanes.
  return forms | ops::Forms{!moe.fp8_experts, moe.fp8_experts};
}

std::pair<int64_t, int64_t> DenseCut(int64_t intermediate, int lane, int lanes) {
  const int64_t blocks = CeilDiv(intermediate, kScaleBlock);
  const auto cut = [&](int64_t at) { return std::min(intermediate, at * blocks / lanes * kScaleBlock); };
  return {cut(lane), cut(lane + 1)};
}

namespace {

// The layer whose tensors begin with `prefix`.
LayerWeights LoadLayer(const Loader& load, const checkpoint::ModelConfig& config, const StageSlice& slice,
                       const std::string& prefix, bool has_indexer, bool dense) {
  LayerWeights layer;
  layer.input_layernorm = load.Vector(prefix + "input_layernorm.weight");
  layer.attention = load.Attention(prefix + "self_attn.", config, slice.lane % slice.attn_tp, slice.attn_tp);
  if (has_indexer) layer.indexer = load.Indexer(prefix + "self_attn.indexer.");
  layer.post_attention_layernorm = load.Vector(prefix + "post_attention_layernorm.weight");
  if (!dense) {
    layer.moe = load.Moe(prefix + "mlp.", config, slice.lane, slice.expert_owners);
  } else if (slice.dense_tp) {
    const auto [begin, end] = DenseCut(config.intermediate_size, slice.lane, slice.lanes);
    layer.mlp = load.SplitMlp(prefix + "mlp.", begin, end);
  } else {
    layer.mlp = load.Mlp(prefix + "mlp.");
  }
  return layer;
}

}  // namespace

StageWeights LoadStage(const checkpoint::Checkpoint& checkpoint, ops::Ops& ops, const StageSlice& slice,
                       WeightStore* shared) {
  const auto& config = checkpoint.config();
  const Loader load(checkpoint, ops, shared);
  const VocabularyRange vocabulary = VocabularyOf(config.vocab_size, slice.lane, slice.lanes);
  StageWeights weights;
  if (slice.first) weights.embed_tokens = load.Table("model.embed_tokens.weight", vocabulary);
  for (const parallel::LayerRange& range : slice.layers) {
    for (int64_t layer = range.begin; layer < range.end; ++layer) {
      weights.layers.push_back(LoadLayer(load, config, slice, checkpoint::LayerPrefix(layer),
                                         config.HasIndexer(layer), config.IsDense(layer)));
    }
  }
  const auto head = [&](const std::string& name) {
    WeightPtr packed = ops.Pack(StoredRows(checkpoint, name, vocabulary.begin, vocabulary.end));
    checkpoint.ReleasePages(name);
    return packed;
  };
  if (slice.last) {
    weights.norm = load.Vector("model.norm.weight");
    weights.lm_head = head("lm_head.weight");
  }
  if (!slice.nextn) return weights;
  for (const int64_t index : checkpoint::NextnLayers(config)) {
    const std::string prefix = checkpoint::LayerPrefix(index);
    NextnWeights& nextn = weights.nextn.emplace_back();
    if (const std::string own = prefix + "embed_tokens.weight"; checkpoint.Has(own)) {
      nextn.embed_tokens = load.Table(own, vocabulary);
    }
    nextn.enorm = load.Vector(prefix + "enorm.weight");
    nextn.hnorm = load.Vector(prefix + "hnorm.weight");
    nextn.eh_proj = load.Linear(prefix + "eh_proj.weight");
    nextn.layer =
        LoadLayer(load, config, slice, prefix, checkpoint.Has(prefix + "self_attn.indexer.wk.weight"),
                  /*dense=*/false);
    nextn.shared_head_norm = load.Vector(prefix + "shared_head.norm.weight");
    if (const std::string own = prefix + "shared_head.head.weight"; checkpoint.Has(own)) {
      nextn.shared_head = head(own);
    }
  }
  return weights;
}

}  // namespace sluice::model
