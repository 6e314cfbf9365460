#include "model/moe.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "model/mlp.h"
#include "model/shapes.h"

namespace sluice::model {
namespace {

// Both halves of a table of choices.
ops::ExpertChoices ChoicesOf(const Tensor& both) {
  const int64_t top_k = both.cols / 2;
  ops::ExpertChoices choices{both.ColRange(0, top_k), both.ColRange(top_k, top_k)};
  choices.weights.dtype = DType::kF32;
  return choices;
}

// The form in which rows go to the experts of all lanes.
const Tensor& TravellingForm(const MoeWeights& weights, const ops::Activation& h) {
  return weights.fp8_experts ? h.quantized : h.values;
}

// What the plan's rows of x become in their experts: [pairs, hidden].
Tensor ExpertOutputs(const Pass& pass, const ExpertWeights& experts, const ops::Activation& x,
                     const ops::ExpertPlan& plan) {
  ops::Ops& ops = pass.ops();
  const int64_t pairs = plan.rows.cols;
  const Tensor out = pass.NewActivation(pairs, experts.down_proj->rows());
  const Tensor gate = pass.NewActivation(pairs, experts.gate_proj->rows());
  const Tensor up = pass.NewActivation(pairs, experts.up_proj->rows());
  {
    // There are many of these rows: they come in one form, and their memory is used again.
    const Arena::Scope scratch(pass.arena());
    const ops::Forms read = experts.gate_proj->reads() | experts.up_proj->reads();
    const Tensor& form = read.values || !x.forms().quantized ? x.values : x.quantized;
    const Tensor in = pass.New(form.dtype, pairs, form.cols);
    ops.TakeRows(form, plan.rows, in);
    ops.GroupedLinear(in, plan.groups, *experts.gate_proj, gate);
    ops.GroupedLinear(in, plan.groups, *experts.up_proj, up);
  }
  const ops::Activation gated = pass.NewForms(experts.down_proj->reads(), gate);
  ops.SwiGlu(gate, up, gated);
  ops.GroupedLinear(gated, plan.groups, *experts.down_proj, out);
  return out;
}

}  // namespace

Moe::Moe(const checkpoint::ModelConfig& config, int owners)
    : shape_(RouterShapeOf(config)),
      hidden_(config.hidden_size),
      tree_(config.n_routed_experts, owners),
      leaves_{static_cast<int32_t>(config.n_routed_experts), static_cast<int32_t>(tree_.leaves())} {}

void Moe::ReserveLanding(int64_t rows, Memory& landing) {
  landing_ = Buffer(rows * 2 * shape_.top_k * SizeOf(DType::kI32), landing);
}

void Moe::ResetTraffic() {
  traffic_.choice_bytes = 0;
  traffic_.dispatch_bytes = 0;
  traffic_.return_bytes = 0;
  traffic_.row_owners = 0;
}

Tensor Moe::Forward(const Pass& pass, const MoeWeights& weights, const ops::Activation& h) const {
  const Pass::Gathering choices_of_lanes =
      pass.BeginGather("all-gather expert choices", Route(pass, weights, h));
  // It waits for no other lane: the device has it to do while the host waits for the choices, and plans.
  std::optional<Tensor> shared;
  if (weights.shared_experts.has_value()) shared = MlpForward(pass, *weights.shared_experts, h);
  const Tensor choices = choices_of_lanes.End();
  Tensor out;
  if (pass.split().lanes() > 1 && pass.split().rows() > kFewRows) {
    // The gathered choices are there: End is the host's.
    out = ByPlan(pass, weights, choices,
                 Routing(tree_, OnHost(choices, pass.ops().memory()), pass.RowsOfLanes()), h);
  } else if (pass.split().lanes() > 1) {
    out = ByFixedSlots(pass, weights, choices, h);
  } else {
    traffic_.row_owners += h.rows();
    // One subtree: the root.
    out = Nodes(pass, weights, choices, h, PlanFor(pass, weights, choices, h.rows() * shape_.top_k));
  }
  if (shared.has_value()) pass.ops().Add(*shared, out);
  return out;
}

std::vector<ops::Subtree> Moe::SubtreesOf(int lane) const {
  const auto [first_leaf, end_leaf] = tree_.Owned(lane);
  std::vector<ops::Subtree> subtrees;
  for (const int32_t node : tree_.Subtrees(first_leaf, end_leaf)) {
    subtrees.push_back({static_cast<int32_t>(tree_.nodes()[node].first_leaf),
                        static_cast<int32_t>(tree_.nodes()[node].end_leaf)});
  }
  return subtrees;
}

Tensor Moe::Route(const Pass& pass, const MoeWeights& weights, const ops::Activation& h) const {
  const Tensor logits = pass.New(DType::kF32, h.rows(), shape_.experts);
  pass.ops().Linear(h, *weights.gate, logits);
  const Tensor mine = pass.New(DType::kI32, h.rows(), 2 * shape_.top_k);
  const ops::ExpertChoices choices = ChoicesOf(mine);
  pass.ops().Route(shape_, logits, weights.e_score_correction_bias, choices.ids, choices.weights);
  traffic_.choice_bytes += (pass.split().lanes() - 1) * mine.bytes();
  return mine;
}

Tensor Moe::OnHost(const Tensor& choices, Memory& memory) const {
  if (memory.OnHost()) return choices;
  SLUICE_CHECK(choices.contiguous());
  if (landing_.bytes() < choices.bytes()) landing_ = Buffer(choices.bytes());
  memory.Copy(choices.data, landing_.data(), choices.bytes());
  return {landing_.data(), choices.dtype, choices.rows, choices.cols, choices.stride};
}

std::optional<ops::ExpertPlan> Moe::PlanFor(const Pass& pass, const MoeWeights& weights,
                                            const Tensor& choices, int64_t pairs) const {
  if (weights.experts.count() == 0) return std::nullopt;
  const ops::ExpertPlan plan{pass.New(DType::kI32, 1, pairs),
                             pass.New(DType::kI32, weights.experts.count(), 3),
                             pass.New(DType::kI32, choices.rows, shape_.top_k)};
  pass.ops().PlanExperts(ChoicesOf(choices).ids, weights.first_expert, plan);
  return plan;
}

Tensor Moe::Nodes(const Pass& pass, const MoeWeights& weights, const Tensor& choices,
                  const ops::Activation& x, const std::optional<ops::ExpertPlan>& plan) const {
  const std::vector<ops::Subtree> subtrees = SubtreesOf(pass.lane());
  const Tensor nodes = pass.NewActivation(x.rows() * std::ssize(subtrees), hidden_);
  if (!plan.has_value()) return nodes;
  const Tensor y = ExpertOutputs(pass, weights.experts, x, *plan);
  pass.ops().SumExperts(y, plan->pairs, ChoicesOf(choices), leaves_, subtrees, nodes);
  return nodes;
}

Tensor Moe::ByFixedSlots(const Pass& pass, const MoeWeights& weights, const Tensor& choices,
                         const ops::Activation& h) const {
  const int lanes = pass.split().lanes();
  const int me = pass.lane();
  const std::vector<int64_t> rows = pass.RowsOfLanes();
  const auto mine = static_cast<int64_t>(SubtreesOf(me).size());

  // My rows to every owner; all rows to me, if I am one.
  const Tensor& sent = TravellingForm(weights, h);
  const int64_t all_rows = mine > 0 ? pass.split().rows() : 0;
  const Tensor arrived = pass.New(sent.dtype, all_rows, sent.cols);
  std::vector<std::span<const std::byte>> send;
  std::vector<int64_t> arriving;
  for (int lane = 0; lane < lanes; ++lane) {
    const bool owner = !SubtreesOf(lane).empty();
    send.push_back(BytesOf(sent).first(owner ? static_cast<size_t>(sent.bytes()) : 0));
    arriving.push_back(mine > 0 ? rows[lane] : 0);
    traffic_.row_owners += owner ? sent.rows : 0;
    traffic_.dispatch_bytes += owner && lane != me ? sent.bytes() : 0;
  }
  pass.lanes().AllToAll("dispatch rows to experts", send, PartsOf(arrived, arriving));

  const Tensor chosen = choices.RowRange(0, all_rows);
  const Tensor nodes =
      Nodes(pass, weights, chosen, arrived,
            PlanFor(pass, weights, chosen, all_rows * std::min(shape_.top_k, weights.experts.count())));

  // A slot for each of an owner's subtrees of each of my rows; the same for the others' rows from me.
  std::vector<int64_t> returning;
  std::vector<int64_t> coming;
  std::vector<ops::SubtreeRows> subtrees;
  int64_t slots = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    const std::vector<ops::Subtree> owned = SubtreesOf(lane);
    for (size_t s = 0; s < owned.size(); ++s) {
      subtrees.push_back({owned[s], slots + static_cast<int64_t>(s), std::ssize(owned)});
    }
    returning.push_back(rows[lane] * mine);
    coming.push_back(sent.rows * std::ssize(owned));
    slots += coming.back();
  }
  const Tensor found = pass.NewActivation(slots, hidden_);
  ExchangeRows(pass, "return expert sums", nodes, returning, found, coming);
  traffic_.return_bytes += (nodes.rows - returning[me]) * nodes.cols * SizeOf(nodes.dtype);
  const Tensor out = pass.NewActivation(sent.rows, hidden_);
  pass.ops().JoinSubtrees(found, ChoicesOf(choices.RowRange(FirstRow(rows, me), sent.rows)).ids, leaves_,
                          subtrees, out);
  return out;
}

Tensor Moe::ByPlan(const Pass& pass, const MoeWeights& weights, const Tensor& choices, const Routing& routing,
                   const ops::Activation& h) const {
  ops::Ops& ops = pass.ops();
  const int lanes = pass.split().lanes();
  const int me = pass.lane();
  const Tensor& travels = TravellingForm(weights, h);

  // My rows to the owners of the experts they chose; the others' rows to me.
  std::vector<std::vector<int64_t>> sent(lanes);  // my local rows, by owner
  std::vector<int64_t> sent_rows;
  std::vector<int64_t> sent_counts;
  for (int lane = 0; lane < lanes; ++lane) {
    sent[lane] = RowsFor(tree_, routing, me, lane);
    sent_rows.insert(sent_rows.end(), sent[lane].begin(), sent[lane].end());
    sent_counts.push_back(static_cast<int64_t>(sent[lane].size()));
  }
  traffic_.row_owners += static_cast<int64_t>(sent_rows.size());
  const Tensor outgoing = pass.New(travels.dtype, static_cast<int64_t>(sent_rows.size()), travels.cols);
  ops.CopyRows(travels, sent_rows, outgoing);
  const auto made = ops.Mark();
  std::vector<int64_t> chosen_rows;  // those that arrive, by lane
  std::vector<int64_t> received_counts;
  for (int lane = 0; lane < lanes; ++lane) {
    const std::vector<int64_t> from_lane = RowsFor(tree_, routing, lane, me);
    for (const int64_t row : from_lane) chosen_rows.push_back(routing.FirstRowOf(lane) + row);
    received_counts.push_back(static_cast<int64_t>(from_lane.size()));
  }
  const Tensor arrived = pass.New(travels.dtype, std::ssize(chosen_rows), travels.cols);

  // The experts' plan follows from the choices: the device makes it while rows travel.
  const auto [first_leaf, end_leaf] = tree_.Owned(me);
  const auto [first_expert, end_expert] = tree_.ExpertsOf(first_leaf, end_leaf);
  const Tensor chosen = pass.New(choices.dtype, arrived.rows, choices.cols);
  ops.CopyRows(choices, chosen_rows, chosen);
  const auto experts = PlanFor(pass, weights, chosen, routing.ChoicesOf(first_expert, end_expert));
  ExchangeRows(pass, "dispatch rows to experts", outgoing, sent_counts, arrived, received_counts, made.get());
  traffic_.dispatch_bytes += (outgoing.rows - sent_counts[me]) * outgoing.cols * SizeOf(outgoing.dtype);
  const Tensor nodes = Nodes(pass, weights, chosen, arrived, experts);

  // The subtrees of what arrived that are present travel back, row by row. They, and the joins below, are
  // listed while the device computes the experts.
  const std::vector<int32_t> subtrees = tree_.Subtrees(first_leaf, end_leaf);
  std::vector<int64_t> travelling;  // rows of nodes
  std::vector<int64_t> returned_counts;
  int64_t at = 0;  // of arrived
  for (int lane = 0; lane < lanes; ++lane) {
    const auto before = std::ssize(travelling);
    for (int64_t i = 0; i < received_counts[lane]; ++i, ++at) {
      const LeafSet leaves = routing.LeavesOf(lane, chosen_rows[at] - routing.FirstRowOf(lane));
      for (size_t s = 0; s < subtrees.size(); ++s) {
        if ((leaves & LeavesBelow(tree_, subtrees[s])) == 0) continue;
        travelling.push_back(at * std::ssize(subtrees) + static_cast<int64_t>(s));
      }
    }
    returned_counts.push_back(std::ssize(travelling) - before);
  }
  const Tensor returned = pass.NewActivation(static_cast<int64_t>(travelling.size()), hidden_);
  ops.CopyRows(nodes, travelling, returned);

  // The subtrees of my rows from every owner, then the joins up to the root.
  const auto node_count = std::ssize(tree_.nodes());
  std::vector<int32_t> found(static_cast<size_t>(travels.rows * node_count), kAbsent);
  std::vector<int64_t> coming_counts;
  int32_t coming = 0;
  for (int owner = 0; owner < lanes; ++owner) {
    const int32_t before = coming;
    const auto [first, end] = tree_.Owned(owner);
    const std::vector<int32_t> owned = tree_.Subtrees(first, end);
    for (const int64_t row : sent[owner]) {
      const LeafSet leaves = routing.LeavesOf(me, row);
      for (const int32_t subtree : owned) {
        if ((leaves & LeavesBelow(tree_, subtree)) != 0) found[row * node_count + subtree] = coming++;
      }
    }
    coming_counts.push_back(coming - before);
  }
  JoinPlan plan(tree_, coming);
  std::vector<int64_t> roots;
  for (int64_t row = 0; row < travels.rows; ++row) {
    const int32_t root =
        plan.Join(tree_.root(), NodeRows(found).subspan(static_cast<size_t>(row * node_count), node_count));
    SLUICE_CHECK(root != kAbsent, "row {} chose no expert", row);
    roots.push_back(root);
  }
  const Tensor joined = pass.NewActivation(plan.rows(), hidden_);
  ExchangeRows(pass, "return expert sums", returned, returned_counts, joined.RowRange(0, coming),
               coming_counts);
  traffic_.return_bytes += (returned.rows - returned_counts[me]) * returned.cols * SizeOf(returned.dtype);
  ops.JoinNodes(plan.joins(), joined);
  const Tensor out = pass.NewActivation(travels.rows, hidden_);
  ops.CopyRows(joined, roots, out);
  return out;
}

}  // namespace sluice::model
