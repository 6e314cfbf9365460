#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "cache/stage_cache.h"
#include "checkpoint/model_config.h"
#include "model/pass.h"
#include "model/weights.h"

namespace sluice::model {

// For comparisons with an oracle: looks at a layer's selection, or puts another in its place.
using SelectionSteering = std::function<void(const Tensor& selection)>;

// The positions that rows attend to, each tensor [rows, index_topk] I32. A layer with an indexer writes it;
// those after it that share its selection read it.
struct Selection {
  Tensor mine;      // of this lane's rows
  Tensor of_heads;  // of its head group's rows, what its lanes selected; `mine` without one
};

// Per-config constants of the attention block.
class Attention {
 public:
  // `attn_tp`: lanes that share the heads (parallel/grid.h).
  Attention(const checkpoint::ModelConfig& config, int attn_tp);

  // The rotations of a pass: [rows, rope] F32, cosines then sines.
  struct Rotations {
    Tensor mine;      // of this lane's rows
    Tensor of_heads;  // of its head group's rows; `mine` without one
  };
  Rotations Angles(const Pass& pass) const;

  // Room for a selection. `mine`, if there, is the lane's own part, and lies elsewhere.
  Selection NewSelection(const Pass& pass, const Tensor* mine = nullptr) const;
  // Brings together what the lanes of the head group have in `mine`.
  static void GatherSelection(const Pass& pass, const Selection& selection);

  // h [T, hidden], normed -> [T, hidden]. Multi-head latent attention over the keys that the lightning
  // indexer selects (DeepSeek-V3.2 report, equations 1-2; absorbed form of MLA at all times).
  //
  // The latents and index keys of the lane's rows are brought to cache format, exchanged with the other lanes
  // in that format, and written before anything is scored: a chunk sees itself through the cache, and every
  // lane's cache holds every row. Only the lane's own rows are scored.
  //
  // With an indexer the layer writes `selection`. Without one, and then without index keys, it attends to the
  // positions that are there, over its own latents.
  //
  // With attention tensor parallelism the head group brings its low-rank queries and selections together;
  // each lane attends for the rows of all of them with its own heads, and the partial outputs go back to the
  // rows' owners, who add them (SumOverRanks). No row is scored, and no head computed, twice.
  // `steering`, if any, sees the selection of a layer with an indexer and may overwrite it before it is used.
  struct Caches {
    ops::PagedCache latents;
    std::optional<ops::PagedCache> index_keys;  // of a layer with an indexer
  };
  Tensor Forward(const Pass& pass, const AttentionWeights& attention,
                 const std::optional<IndexerWeights>& indexer, const Caches& caches, const Rotations& angles,
                 const ops::Activation& h, const Selection& selection,
                 const SelectionSteering& steering) const;

 private:
  // q^I and w of the lane's own rows: I_{t,s} = sum_h w_{t,h} ReLU(q^I_{t,h} . k^I_s).
  struct IndexQueries {
    Tensor queries;  // [T, index_heads * index_dim]
    Tensor gates;    // [T, index_heads] F32
  };
  IndexQueries QueriesOfIndexer(const Pass& pass, const IndexerWeights& indexer, const Tensor& angles,
                                const ops::Activation& h, const ops::Activation& query_low) const;
  // [W_uk^T q_nope; q_pe] of this lane's heads: [rows, heads * latent width].
  Tensor LatentQueries(const Pass& pass, const AttentionWeights& attention, const Tensor& angles,
                       const ops::Activation& query_low) const;
  // o = W_o W_uv softmax(...) of this lane's heads for the head group's rows, in `type`.
  Tensor Attend(const Pass& pass, const AttentionWeights& attention, const ops::PagedCache& latents,
                const Tensor& query_latent, const Tensor& selection, DType type) const;

  ops::AttentionShape shape_;  // with the heads of one lane
  ops::IndexerShape indexer_shape_;
  float rms_norm_eps_;
  float softmax_scale_;
  std::vector<float> inverse_frequencies_;
};

}  // namespace sluice::model
