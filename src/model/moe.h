#pragma once

#include "checkpoint/model_config.h"
#include "model/expert_tree.h"
#include "model/pass.h"
#include "model/weights.h"

namespace sluice::model {

// h [T, hidden] -> W_down(silu(W_gate h) * (W_up h)) [T, hidden].
Tensor MlpForward(const Pass& pass, const MlpWeights& mlp, const Tensor& h);

// The mixture of experts of one layer, its experts spread over the lanes of the stage.
class Moe {
 public:
  explicit Moe(const checkpoint::ModelConfig& config);

  // h [T, hidden], normed -> [T, hidden]: sum_k weight_k E_k(h) in the order of ExpertTree, the shared expert last.
  //
  // Every lane routes its own rows; the choices are gathered, so all lanes know who sends what to whom. A row
  // travels once to each owner of an expert it chose, and the owner sends back its largest subtrees.
  Tensor Forward(const Pass& pass, const MoeWeights& weights, const Tensor& h) const;

 private:
  struct Routing;
  Routing Route(const Pass& pass, const MoeWeights& weights, const Tensor& h) const;
  // Rows (local to `lane`) that chose an expert of `owner`, ascending.
  std::vector<int64_t> RowsFor(const Routing& routing, int lane, int owner, int owners) const;

  ops::RouterShape shape_;
  ExpertTree tree_;
};

}  // namespace sluice::model
