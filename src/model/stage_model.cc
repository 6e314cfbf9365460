#include "model/stage_model.h"

#include <algorithm>
#include <utility>

#include "model/mlp.h"
#include "model/shapes.h"

namespace sluice::model {
namespace {

std::vector<bool> HasIndexers(const StageWeights& weights) {
  std::vector<bool> has;
  for (const LayerWeights& layer : weights.layers) has.push_back(layer.indexer.has_value());
  return has;
}

ops::Forms FormsRead(const StageWeights& weights) {
  ops::Forms forms;
  for (const LayerWeights& layer : weights.layers) forms = forms | model::FormsRead(layer);
  return forms;
}

}  // namespace

StageModel::StageModel(const checkpoint::ModelConfig& config, const StageSlice& slice, StageWeights weights,
                       ops::CacheFormat cache_format, int64_t cache_pages, Memory& memory)
    : config_(config),
      slice_(slice),
      weights_(std::move(weights)),
      forms_read_(FormsRead(weights_)),
      cache_(CacheShapeOf(config, cache_format), HasIndexers(weights_), cache_pages, memory),
      attention_(config, slice.attn_tp),
      moe_(config, slice.expert_owners) {}

bool StageModel::fp8_experts() const {
  return std::ranges::all_of(weights_.layers, [](const LayerWeights& layer) {
    return !layer.moe.has_value() || layer.moe->fp8_experts;
  });
}

void StageModel::Reserve(ops::Ops& ops, const ops::OpLimits& limits) {
  ops.Reserve(limits);
  if (!ops.memory().OnHost()) moe_.ReserveLanding(limits.places, ops.memory().Landing());
}

void StageModel::Embed(const Pass& pass, const Tensor& x) const {
  SLUICE_CHECK(slice_.first);
  model::Embed(pass, *weights_.embed_tokens, config_.vocab_size, x);
}

bool StageModel::TakesSelection(int visit) const { return !config_.HasIndexer(slice_.layers[visit].begin); }

void StageModel::Layers(const Pass& pass, int visit, const Tensor& x, const SelectionHook* hook,
                        const Tensor* selection) {
  ops::Ops& ops = pass.ops();
  const auto eps = static_cast<float>(config_.rms_norm_eps);
  const Arena::Scope scratch(pass.arena());
  const Attention::Rotations angles = attention_.Angles(pass);
  const ops::Activation h = pass.NewForms(forms_read_, pass.NewActivation(x.rows, x.cols));
  // Where no layer shares it a selection lives as long as its layer's attention.
  const bool outlives_layers = !config_.shares_selection.empty();
  Selection selected;
  if (outlives_layers) selected = attention_.NewSelection(pass, selection);
  if (TakesSelection(visit)) {
    SLUICE_CHECK(selection != nullptr, "layer {} begins without a selection", slice_.layers[visit].begin);
    Attention::GatherSelection(pass, selected);
  }
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
    if (layer == range.begin) ops.RmsNorm(x, weights.input_layernorm, eps, h);
    SelectionSteering steering;
    if (hook != nullptr) {
      steering = [&](const Tensor& chosen) { hook->on_selection(layer, pass, chosen); };
    }
    {
      const Arena::Scope of_attention(pass.arena());
      if (!outlives_layers) selected = attention_.NewSelection(pass);
      Attention::Caches caches{cache_.Latents(local), std::nullopt};
      if (cache_.HasIndexKeys(local)) caches.index_keys = cache_.IndexKeys(local);
      const Tensor attended =
          attention_.Forward(pass, weights.attention, weights.indexer, caches, angles, h, selected, steering);
      ops.AddRmsNorm(attended, x, weights.post_attention_layernorm, eps, h);
    }
    const Arena::Scope of_feed_forward(pass.arena());
    const Tensor fed = FeedForward(pass, weights, h);
    if (layer + 1 < range.end) {
      ops.AddRmsNorm(fed, x, weights_.layers[local + 1].input_layernorm, eps, h);
    } else {
      ops.Add(fed, x);
    }
  }
}

Tensor StageModel::FeedForward(const Pass& pass, const LayerWeights& weights,
                               const ops::Activation& h) const {
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
