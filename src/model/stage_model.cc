#include "model/stage_model.h"

#include <utility>

#include "model/mlp.h"
#include "model/shapes.h"

namespace sluice::model {

StageModel::StageModel(const checkpoint::ModelConfig& config, const StageSlice& slice, StageWeights weights,
                       ops::CacheFormat cache_format, int64_t cache_pages, Memory& memory, Memory& landing)
    : config_(config),
      slice_(slice),
      weights_(std::move(weights)),
      cache_(CacheShapeOf(config, cache_format), std::ssize(weights_.layers), cache_pages, memory),
      attention_(config, slice.attn_tp),
      moe_(config, slice.expert_owners, landing) {}

void StageModel::Embed(const Pass& pass, const Tensor& x) const {
  SLUICE_CHECK(slice_.first);
  model::Embed(pass, *weights_.embed_tokens, config_.vocab_size, x);
}

void StageModel::Layers(const Pass& pass, int visit, const Tensor& x, const SelectionHook* hook) {
  ops::Ops& ops = pass.ops();
  const auto eps = static_cast<float>(config_.rms_norm_eps);
  const Arena::Scope scratch(pass.arena());
  const Attention::Rotations angles = attention_.Angles(pass);
  const Tensor h = pass.NewActivation(x.rows, x.cols);
  const parallel::LayerRange& range = slice_.layers[visit];
  int64_t local = 0;  // of the range's first layer among those of this rank
  for (int earlier = 0; earlier < visit; ++earlier) local += slice_.layers[earlier].size();
  for (int64_t layer = range.begin; layer < range.end; ++layer, ++local) {
    if (auto* recorder = pass.lanes().recorder()) {
      trace::Place place = recorder->place();
      place.layer = static_cast<int32_t>(layer);
      recorder->SetPlace(place);
    }
    const LayerWeights& weights = weights_.layers[local];
    SelectionSteering steering;
    if (hook != nullptr) {
      steering = [&](const Tensor& selection) { hook->on_selection(layer, pass, selection); };
    }
    {
      const Arena::Scope of_attention(pass.arena());
      ops.RmsNorm(x, weights.input_layernorm, eps, h);
      ops.Add(attention_.Forward(pass, weights.attention, weights.indexer, cache_.Latents(local),
                                 cache_.IndexKeys(local), angles, h, steering),
              x);
    }
    const Arena::Scope of_feed_forward(pass.arena());
    ops.RmsNorm(x, weights.post_attention_layernorm, eps, h);
    ops.Add(FeedForward(pass, weights, h), x);
  }
}

Tensor StageModel::FeedForward(const Pass& pass, const LayerWeights& weights, const Tensor& h) const {
  if (weights.moe.has_value()) return moe_.Forward(pass, *weights.moe, h);
  return slice_.dense_tp ? MlpForwardSplit(pass, *weights.mlp, h) : MlpForward(pass, *weights.mlp, h);
}

void StageModel::Head(const Pass& pass, const Tensor& x, const std::vector<int64_t>& wanted,
                      const LogitsSink& sink) const {
  SLUICE_CHECK(slice_.last);
  model::Head(pass, *weights_.norm, static_cast<float>(config_.rms_norm_eps), **weights_.lm_head,
              config_.vocab_size, wanted, x, sink);
}

}  // namespace sluice::model
