#pragma once

#include <functional>

#include "cache/stage_cache.h"
#include "model/attention.h"
#include "model/moe.h"
#include "model/pass.h"
#include "model/vocabulary.h"
#include "model/weights.h"

namespace sluice::model {

// For comparisons with an oracle: what the indexer chose, and what it shall choose instead. Layers are
// counted over the whole model, rows are those of the lane.
struct SelectionHook {
  // Called with the selection [T, index_topk] I32 of each layer that has an indexer before it is used; may
  // overwrite it.
  std::function<void(int64_t layer, const Pass& pass, const Tensor& selection)> on_selection;
};

// The layers of one stage on one lane. Activations are [T, hidden] of type A and stay dealt over the lanes
// from the first op to the last; no collective stands between this stage's last op and the next one's first.
class StageModel {
 public:
  StageModel(const checkpoint::ModelConfig& config, const StageSlice& slice, StageWeights weights,
             ops::CacheFormat cache_format, int64_t cache_pages, Memory& memory = HostMemory());

  const StageSlice& slice() const { return slice_; }
  const checkpoint::ModelConfig& config() const { return config_; }
  int64_t hidden_size() const { return config_.hidden_size; }
  cache::StageCache& cache() { return cache_; }
  const ExpertTraffic& expert_traffic() const { return moe_.traffic(); }
  void ResetExpertTraffic() { moe_.ResetTraffic(); }

  // Whether all layers that have experts take their rows quantised (MoeWeights).
  bool fp8_experts() const;

  // Before the first pass, where none may take memory: `ops` take what passes within `limits` need inside,
  // and the host what it has to read of a device (Moe::ReserveLanding).
  void Reserve(ops::Ops& ops, const ops::OpLimits& limits);

  // First stage only: x [T, hidden] = embeddings of the lane's rows.
  void Embed(const Pass& pass, const Tensor& x) const;
  // Whether the range `visit` begins with layers that attend to the selection of one before it, which then
  // must be handed over with the rows.
  bool TakesSelection(int visit) const;
  // x [T, hidden], in place: x += Attn(norm(x)); x += FFN(norm(x)) for each layer of range `visit`.
  // `selection` [T, index_topk] I32: where the last selection of the layers before the range is, if
  // TakesSelection, and where that of the last layer of the range is afterwards. Without it that is lost.
  void Layers(const Pass& pass, int visit, const Tensor& x, const SelectionHook* hook = nullptr,
              const Tensor* selection = nullptr);
  // Last stage only; see vocabulary.h.
  void Head(const Pass& pass, const Tensor& x, const std::vector<int64_t>& wanted,
            const LogitsSink& sink) const;

 private:
  Tensor FeedForward(const Pass& pass, const LayerWeights& weights, const ops::Activation& h) const;

  checkpoint::ModelConfig config_;
  StageSlice slice_;
  StageWeights weights_;
  ops::Forms forms_read_;  // of normed rows, by any of the layers
  cache::StageCache cache_;
  Attention attention_;
  Moe moe_;
};

}  // namespace sluice::model
