#pragma once

#include <functional>

#include "cache/stage_cache.h"
#include "checkpoint/model_config.h"
#include "model/pass.h"
#include "model/weights.h"

namespace sluice::model {

// For comparisons with an oracle: looks at a layer's selection, or puts another in its place.
using SelectionSteering = std::function<void(const Tensor& selection)>;

// Per-config constants of the attention block.
class Attention {
 public:
  explicit Attention(const checkpoint::ModelConfig& config);

  // The rotation of this lane's rows, computed once per pass: [T, rope] F32, cosines then sines.
  Tensor Angles(const Pass& pass) const;

  // h [T, hidden], normed -> [T, hidden]. Multi-head latent attention over the keys that the lightning
  // indexer selects (DeepSeek-V3.2 report, equations 1-2; absorbed form of MLA at all times).
  //
  // The latents and index keys of the lane's rows are brought to cache format, exchanged with the other lanes
  // in that format, and written before anything is scored: a chunk sees itself through the cache, and every
  // lane's cache holds every row. Only the lane's own rows are scored and attended.
  // `steering`, if any, sees the selection [T, index_topk] I32 and may overwrite it before it is used.
  Tensor Forward(const Pass& pass, const AttentionWeights& attention, const IndexerWeights& indexer,
                 const ops::PagedCache& latents, const ops::PagedCache& index_keys, const Tensor& angles,
                 const Tensor& h, const SelectionSteering& steering) const;

 private:
  ops::AttentionShape shape_;
  ops::IndexerShape indexer_shape_;
  float rms_norm_eps_;
  float softmax_scale_;
  std::vector<float> inverse_frequencies_;
};

}  // namespace sluice::model
