#pragma once

#include <atomic>

#include "checkpoint/model_config.h"
#include "model/expert_exchange.h"
#include "model/expert_tree.h"
#include "model/pass.h"
#include "model/weights.h"

namespace sluice::model {

// What this lane has sent to others for its MoE layers since the start; readable from any thread.
struct ExpertTraffic {
  std::atomic<int64_t> choice_bytes = 0;
  std::atomic<int64_t> dispatch_bytes = 0;
  std::atomic<int64_t> return_bytes = 0;
  std::atomic<int64_t> row_owners =
      0;  // owners of a chosen expert, itself among them, over all rows and layers
};

// The mixture of experts of one layer, its experts spread over lanes of the stage.
class Moe {
 public:
  // `owners`: lanes that hold experts.
  Moe(const checkpoint::ModelConfig& config, int owners);

  // h [T, hidden], normed -> [T, hidden]: sum_k weight_k E_k(h) in the order of ExpertTree, the shared expert
  // last.
  //
  // Every lane routes its own rows; the choices are gathered. A row travels once to each owner of an expert
  // it chose, quantised where the experts are FP8 (they would quantise it to the same values), and each owner
  // sends back its largest subtrees of the row's sum.
  Tensor Forward(const Pass& pass, const MoeWeights& weights, const Tensor& h) const;

  const ExpertTraffic& traffic() const { return traffic_; }

 private:
  Routing Route(const Pass& pass, const MoeWeights& weights, const Tensor& h) const;
  // Sends h[rows], counts[lane] of them to each lane in order, and returns the rows that arrive, of type A.
  Tensor Dispatch(const Pass& pass, const MoeWeights& weights, const Tensor& h,
                  const std::vector<int64_t>& rows, const std::vector<int64_t>& counts,
                  const std::vector<int64_t>& arriving_counts) const;
  // The outputs of this lane's experts for `rows`, of which `x` holds the hidden states: the subtrees of each
  // row's sum that this lane owns, row by row, as they travel back. counts[lane] is how many go to each lane.
  Tensor Subtrees(const Pass& pass, const MoeWeights& weights, const Routing& routing,
                  const std::vector<LaneRow>& rows, const Tensor& x, std::vector<int64_t>& counts) const;

  ops::RouterShape shape_;
  ExpertTree tree_;
  mutable ExpertTraffic traffic_;
};

}  // namespace sluice::model
