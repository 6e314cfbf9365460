#pragma once

#include "checkpoint/model_config.h"
#include "model/expert_exchange.h"
#include "model/expert_tree.h"
#include "model/pass.h"
#include "model/weights.h"

namespace sluice::model {

// The mixture of experts of one layer, its experts spread over lanes of the stage.
class Moe {
 public:
  // `owners`: lanes that hold experts.
  Moe(const checkpoint::ModelConfig& config, int owners);

  // h [T, hidden], normed -> [T, hidden]: sum_k weight_k E_k(h) in the order of ExpertTree, the shared expert
  // last.
  //
  // Every lane routes its own rows; the choices are gathered. A row travels once to each owner of an expert
  // it chose, and each owner sends back its largest subtrees of the row's sum.
  Tensor Forward(const Pass& pass, const MoeWeights& weights, const Tensor& h) const;

 private:
  Routing Route(const Pass& pass, const MoeWeights& weights, const Tensor& h) const;
  // The outputs of this lane's experts for `rows`, of which `x` holds the hidden states: the subtrees of each
  // row's sum that this lane owns, row by row, as they travel back. counts[lane] is how many go to each lane.
  Tensor Subtrees(const Pass& pass, const MoeWeights& weights, const Routing& routing,
                  const std::vector<LaneRow>& rows, const Tensor& x, std::vector<int64_t>& counts) const;

  ops::RouterShape shape_;
  ExpertTree tree_;
};

}  // namespace sluice::model
