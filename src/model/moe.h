#pragma once

#include <atomic>
#include <optional>

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
  // Lanes that a row went to, itself among them, over all rows and layers.
  std::atomic<int64_t> row_owners = 0;
};

// The mixture of experts of one layer, its experts spread over lanes of the stage.
//
// Whatever is computed, the back end plans it from the choices where they are, so nothing here waits for it.
// What travels between lanes depends on the rows of the step alone:
// - one lane: nothing does;
// - up to kFewRows rows: every owner gets every row and gives back a fixed slot for each of its subtrees, the
//   absent ones as well, so that all sizes are known beforehand;
// - more: rows go to the owners of the experts they chose, and what is present comes back. The host has to
//   know the choices for that, and waits for them; while it plans the device computes the shared expert.
// The canonical tree makes the three equal bit for bit.
class Moe {
 public:
  // At most so many rows of a step travel to all owners: of 8 experts of 256 on 4 owners, nearly every row
  // wants nearly every owner.
  static constexpr int64_t kFewRows = 256;

  // `owners`: lanes that hold experts.
  Moe(const checkpoint::ModelConfig& config, int owners);

  // Takes host memory of `landing` that the choices of steps of up to `rows` rows are copied to. Before the
  // first step: to take or free pinned memory may wait for the whole device, and so for streams that wait for
  // this rank. Without it plain memory is taken when it is wanted.
  void ReserveLanding(int64_t rows, Memory& landing);

  // h [T, hidden], normed -> [T, hidden]: sum_k weight_k E_k(h) in the order of ExpertTree, the shared expert
  // last.
  //
  // Every lane routes its own rows; the choices are gathered. Rows travel in the form that the experts read,
  // and owners send back their largest subtrees of a row's sum. h has the forms of FormsRead.
  Tensor Forward(const Pass& pass, const MoeWeights& weights, const ops::Activation& h) const;

  const ExpertTraffic& traffic() const { return traffic_; }
  void ResetTraffic();

 private:
  // A lane's subtrees of the rows' sums.
  std::vector<ops::Subtree> SubtreesOf(int lane) const;
  // [T, 2 * top_k] I32 of the lane's rows: ids | weights.
  Tensor Route(const Pass& pass, const MoeWeights& weights, const ops::Activation& h) const;
  // The choices where the host can read them, until the next call.
  Tensor OnHost(const Tensor& choices, Memory& memory) const;
  // Which of the rows that made these choices go to which of this lane's experts; `pairs`: at least how many
  // of the choices are those. Nothing on a lane without experts.
  std::optional<ops::ExpertPlan> PlanFor(const Pass& pass, const MoeWeights& weights, const Tensor& choices,
                                         int64_t pairs) const;
  // The sums as far as this lane's experts make them: row t * S + s is subtree s of row t of x, if present.
  // `choices` are those of the rows of x, and `plan` is theirs.
  Tensor Nodes(const Pass& pass, const MoeWeights& weights, const Tensor& choices, const ops::Activation& x,
               const std::optional<ops::ExpertPlan>& plan) const;
  Tensor ByFixedSlots(const Pass& pass, const MoeWeights& weights, const Tensor& choices,
                      const ops::Activation& h) const;
  Tensor ByPlan(const Pass& pass, const MoeWeights& weights, const Tensor& choices, const Routing& routing,
                const ops::Activation& h) const;

  ops::RouterShape shape_;
  int64_t hidden_;
  ExpertTree tree_;
  ops::ExpertLeaves leaves_;
  mutable Buffer landing_;  // kept from layer to layer
  mutable ExpertTraffic traffic_;
};

}  // namespace sluice::model
