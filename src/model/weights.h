#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "model/expert_tree.h"
#include "model/weight_store.h"
#include "ops/ops.h"
#include "parallel/layer_cut.h"
#include "tensor/tensor.h"

// The weights one rank holds. Names follow the checkpoint's.
namespace sluice::model {

struct AttentionWeights {
  WeightPtr q_a_proj;            // [q_lora, hidden]
  OwnedTensor q_a_layernorm;     // [1, q_lora] F32, as every norm below
  WeightPtr q_b_proj;            // [heads * (nope + rope), q_lora]; here and below the heads of this lane
  WeightPtr kv_a_proj_with_mqa;  // [latent + rope, hidden]
  OwnedTensor kv_a_layernorm;    // [1, latent]
  // kv_b_proj, kept once, absorbed: per head W_uk^T [latent, nope] and W_uv [value, latent].
  WeightGroupPtr up_keys;
  WeightGroupPtr up_values;
  WeightPtr o_proj;  // [hidden, heads * value]
};

struct IndexerWeights {
  WeightPtr wq_b;             // [index_heads * index_dim, q_lora]
  WeightPtr wk;               // [index_dim, hidden]
  OwnedTensor k_norm_weight;  // [1, index_dim]
  OwnedTensor k_norm_bias;    // [1, index_dim]
  WeightPtr weights_proj;     // [index_heads, hidden]
};

// Whole, or this lane's part of the intermediate width (StageSlice::dense_tp).
struct MlpWeights {
  WeightPtr gate_proj;  // [intermediate, hidden]
  WeightPtr up_proj;    // [intermediate, hidden]
  WeightPtr down_proj;  // [hidden, intermediate]
};

// The routed experts of one lane, in ascending id; nothing where a lane holds none.
struct ExpertWeights {
  WeightGroupPtr gate_proj;  // each [moe_intermediate, hidden]
  WeightGroupPtr up_proj;    // [moe_intermediate, hidden]
  WeightGroupPtr down_proj;  // [hidden, moe_intermediate]
  int64_t count() const { return gate_proj == nullptr ? 0 : gate_proj->count(); }
};

// The router and the shared expert are on every lane, the routed experts are spread over lanes.
struct MoeWeights {
  WeightPtr gate;                       // [experts, hidden]
  OwnedTensor e_score_correction_bias;  // [1, experts]
  bool fp8_experts = false;             // all gate and up projections, on whatever lane, are FP8 weights
  int64_t first_expert = 0;             // of those below
  ExpertWeights experts;
  std::optional<MlpWeights> shared_experts;
};

struct LayerWeights {
  OwnedTensor input_layernorm;
  AttentionWeights attention;
  std::optional<IndexerWeights> indexer;  // none: the layer shares the selection of one before it
  OwnedTensor post_attention_layernorm;
  std::optional<MlpWeights> mlp;  // dense layers
  std::optional<MoeWeights> moe;  // the others
};

// Of each layer of the model, MoeWeights::fp8_experts as LoadStage will have it; true of dense layers, which
// have none.
std::vector<bool> Fp8Experts(const checkpoint::Checkpoint& checkpoint, ops::Numerics numerics);

// The forms in which the layer's attention and feed-forward read their normed rows.
ops::Forms FormsRead(const LayerWeights& layer);

// A multi-token-prediction (nextn) layer, behind the model's last: from the embedding e of the token after a
// row's and the hidden h of the row, which model.norm has been over,
//
//   layer(W_eh [RMSNorm(e); RMSNorm(h)])  ->  RMSNorm, head  ->  the token after that one
//
// (DeepSeek-V3 report, section 2.2). Held, so that its memory is known and its tensors are read; nothing
// computes with it yet.
struct NextnWeights {
  std::optional<OwnedTensor> embed_tokens;  // its own, cut as the model's; none: the model's are meant
  OwnedTensor enorm;                        // [1, hidden], of e
  OwnedTensor hnorm;                        // [1, hidden], of h
  WeightPtr eh_proj;                        // [hidden, 2 hidden], the columns of e first
  LayerWeights layer;                       // with experts
  OwnedTensor shared_head_norm;             // [1, hidden]
  std::optional<WeightPtr> shared_head;     // as embed_tokens
};

// Embedding and head are cut by vocabulary over the lanes of the stage that uses them.
struct VocabularyRange {
  int64_t begin = 0;
  int64_t end = 0;
};
inline VocabularyRange VocabularyOf(int64_t vocab_size, int lane, int lanes) {
  return {lane * vocab_size / lanes, (lane + 1) * vocab_size / lanes};
}

// Which part of the model a rank holds.
struct StageSlice {
  std::vector<parallel::LayerRange> layers;  // one range for every visit of a step
  int lane = 0;
  int lanes = 1;
  int attn_tp = 1;        // lanes that share the heads (parallel/grid.h)
  int expert_owners = 1;  // lanes, from the first, that hold experts
  bool dense_tp = false;  // dense MLPs are cut over the lanes instead of held whole by each
  bool first = true;      // embeds
  bool last = true;       // has the head
  bool nextn = false;     // on the last stage: also holds the nextn layers
};

// [begin, end) of a dense MLP's intermediate width that `lane` of `lanes` holds: whole blocks of 128, the
// size of a scale block. Empty for some when there are fewer blocks than lanes.
std::pair<int64_t, int64_t> DenseCut(int64_t intermediate, int lane, int lanes);

struct StageWeights {
  std::optional<OwnedTensor> embed_tokens;  // [rows of this lane, hidden], type A
  std::vector<LayerWeights> layers;         // of all ranges, one after the other
  std::optional<OwnedTensor> norm;          // [1, hidden]
  std::optional<WeightPtr> lm_head;         // [rows of this lane, hidden]
  std::vector<NextnWeights> nextn;          // empty unless the slice asks for them
};

// Packs what `slice` needs; with `shared` only what no other rank packed there before. Routed experts,
// vectors, embedding and head are never taken from it. Throws Error(kModelFiles) as Checkpoint::Get does; of
// nextn layers what may be absent is left out (checkpoint::CheckNextnIsWhole).
StageWeights LoadStage(const checkpoint::Checkpoint& checkpoint, ops::Ops& ops, const StageSlice& slice,
                       WeightStore* shared = nullptr);

}  // namespace sluice::model
