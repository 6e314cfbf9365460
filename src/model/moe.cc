#include "model/moe.h"

#include <numeric>

#include "model/mlp.h"
#include "model/shapes.h"

namespace sluice::model {
namespace {

// The hidden states of `grouped` rows of x, each through its expert: [grouped rows, hidden].
Tensor ExpertOutputs(const Pass& pass, const ExpertWeights& experts, const Tensor& x,
                     std::span<const int64_t> grouped, std::span<const int64_t> offsets) {
  ops::Ops& ops = pass.ops();
  const auto pairs = static_cast<int64_t>(grouped.size());
  const Tensor in = pass.NewActivation(pairs, x.cols);
  const Tensor out = pass.NewActivation(pairs, x.cols);
  if (experts.count() == 0) return out;
  ops.CopyRows(x, grouped, in);
  const Tensor gate = pass.NewActivation(pairs, experts.gate_proj->rows());
  const Tensor up = pass.NewActivation(pairs, experts.up_proj->rows());
  ops.GroupedLinear(in, offsets, *experts.gate_proj, gate);
  ops.GroupedLinear(in, offsets, *experts.up_proj, up);
  ops.SwiGlu(gate, up, gate);
  ops.GroupedLinear(gate, offsets, *experts.down_proj, out);
  return out;
}

}  // namespace

Moe::Moe(const checkpoint::ModelConfig& config, int owners)
    : shape_(RouterShapeOf(config)), tree_(config.n_routed_experts, owners) {}

Routing Moe::Route(const Pass& pass, const MoeWeights& weights, const Tensor& h) const {
  const Tensor logits = pass.New(DType::kF32, h.rows, shape_.experts);
  pass.ops().Linear(h, *weights.gate, logits);
  const Tensor mine = pass.New(DType::kI32, h.rows, 2 * shape_.top_k);  // ids | weights
  const auto weight_half = [&](const Tensor& both) {
    Tensor half = both.ColRange(shape_.top_k, shape_.top_k);
    half.dtype = DType::kF32;
    return half;
  };
  pass.ops().Route(shape_, logits, weights.e_score_correction_bias, mine.ColRange(0, shape_.top_k),
                   weight_half(mine));
  const Tensor all = pass.Gather("all-gather expert choices", mine);
  traffic_.choice_bytes += (pass.split().lanes() - 1) * mine.bytes();
  // The plan of who sends what to whom is the host's.
  pass.ops().Finish();
  Routing routing{HostCopy(all, pass.ops().memory()), {}, {}, {0}};
  routing.ids = routing.both.view().ColRange(0, shape_.top_k);
  routing.weights = weight_half(routing.both.view());
  for (int lane = 0; lane < pass.split().lanes(); ++lane) {
    routing.first_row.push_back(routing.first_row.back() + pass.split().CountOf(lane));
  }
  return routing;
}

Tensor Moe::Subtrees(const Pass& pass, const MoeWeights& weights, const Routing& routing,
                     const std::vector<LaneRow>& rows, const Tensor& x, std::vector<int64_t>& counts) const {
  const auto expert_count = weights.experts.count();
  const auto owned = [&](int32_t id) {
    return id >= weights.first_expert && id < weights.first_expert + expert_count;
  };

  // Rows of x grouped by expert: expert e's pairs are [offsets[e], offsets[e + 1]), in the order of `rows`.
  std::vector<int64_t> offsets(expert_count + 1, 0);
  for (const LaneRow& at : rows) {
    for (const int32_t id : routing.IdsOf(at.lane, at.row)) {
      if (owned(id)) ++offsets[id - weights.first_expert + 1];
    }
  }
  for (int64_t e = 0; e < expert_count; ++e) offsets[e + 1] += offsets[e];
  std::vector<int64_t> next_pair(offsets.begin(), offsets.end());
  std::vector<int64_t> grouped(offsets.back());
  // A leaf's terms are its experts in ascending id, as `ids` lists them; leaves are numbered as they appear.
  std::vector<ops::ExpertTerm> terms;
  std::vector<int64_t> term_offsets{0};
  std::vector<NodeRows> leaves(rows.size(), NodeRows(tree_.nodes().size()));
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto ids = routing.IdsOf(rows[r].lane, rows[r].row);
    const auto row_weights = routing.WeightsOf(rows[r].lane, rows[r].row);
    for (size_t k = 0; k < ids.size(); ++k) {
      if (!owned(ids[k])) continue;
      const int64_t pair = next_pair[ids[k] - weights.first_expert]++;
      grouped[pair] = static_cast<int64_t>(r);
      auto& leaf = leaves[r][tree_.LeafOf(ids[k])];
      if (!leaf.has_value()) {
        leaf = static_cast<int32_t>(term_offsets.size()) - 1;
        term_offsets.push_back(term_offsets.back());
      }
      terms.push_back({static_cast<int32_t>(pair), row_weights[k]});
      ++term_offsets.back();
    }
  }
  const Tensor y = ExpertOutputs(pass, weights.experts, x, grouped, offsets);

  const auto [first_leaf, end_leaf] = tree_.Owned(pass.lane());
  const std::vector<int32_t> subtrees = tree_.Subtrees(first_leaf, end_leaf);
  const auto leaf_sums = static_cast<int64_t>(term_offsets.size()) - 1;
  JoinPlan plan(tree_, leaf_sums);
  std::vector<int64_t> travelling;  // node rows
  counts.assign(pass.split().lanes(), 0);
  for (size_t r = 0; r < rows.size(); ++r) {
    for (const int32_t subtree : subtrees) {
      if (const auto node = plan.Join(subtree, leaves[r])) {
        travelling.push_back(*node);
        ++counts[rows[r].lane];
      }
    }
  }
  const Tensor nodes = pass.NewActivation(plan.rows(), x.cols);
  pass.ops().SumTerms(y, terms, term_offsets, nodes.RowRange(0, leaf_sums));
  pass.ops().JoinNodes(plan.joins(), nodes);
  const Tensor packed = pass.NewActivation(static_cast<int64_t>(travelling.size()), x.cols);
  pass.ops().CopyRows(nodes, travelling, packed);
  return packed;
}

Tensor Moe::Dispatch(const Pass& pass, const MoeWeights& weights, const Tensor& h,
                     const std::vector<int64_t>& rows, const std::vector<int64_t>& counts,
                     const std::vector<int64_t>& arriving_counts) const {
  ops::Ops& ops = pass.ops();
  // Nothing travels on one lane: there the experts' own quantisation is enough.
  const bool quantize = weights.fp8_experts && pass.split().lanes() > 1;
  Tensor from = h;
  if (quantize) {
    from = pass.NewBytes(h.rows, ops::QuantizedRowBytes(h.cols));
    ops.QuantizeRows(h, from);
  }
  const auto arriving = std::accumulate(arriving_counts.begin(), arriving_counts.end(), int64_t{0});
  const Tensor outgoing = pass.New(from.dtype, static_cast<int64_t>(rows.size()), from.cols);
  ops.CopyRows(from, rows, outgoing);
  const Tensor arrived = pass.New(from.dtype, arriving, from.cols);
  ExchangeRows(pass, "dispatch rows to experts", outgoing, counts, arrived, arriving_counts);
  traffic_.dispatch_bytes +=
      (static_cast<int64_t>(rows.size()) - counts[pass.lane()]) * from.cols * SizeOf(from.dtype);
  if (!quantize) return arrived;
  const Tensor x = pass.NewActivation(arriving, h.cols);
  ops.DequantizeRows(arrived, x);
  return x;
}

Tensor Moe::Forward(const Pass& pass, const MoeWeights& weights, const Tensor& h) const {
  ops::Ops& ops = pass.ops();
  const int lanes = pass.split().lanes();
  const int me = pass.lane();
  const Routing routing = Route(pass, weights, h);

  // My rows to the owners of the experts they chose; the others' rows to me.
  std::vector<std::vector<int64_t>> sent(lanes);  // my local rows, by owner
  std::vector<int64_t> sent_rows;
  std::vector<int64_t> sent_counts;
  std::vector<LaneRow> received;
  std::vector<int64_t> received_counts;
  for (int lane = 0; lane < lanes; ++lane) {
    sent[lane] = RowsFor(tree_, routing, me, lane);
    sent_rows.insert(sent_rows.end(), sent[lane].begin(), sent[lane].end());
    sent_counts.push_back(static_cast<int64_t>(sent[lane].size()));
    const std::vector<int64_t> from_lane = RowsFor(tree_, routing, lane, me);
    for (const int64_t row : from_lane) received.push_back({lane, row});
    received_counts.push_back(static_cast<int64_t>(from_lane.size()));
  }
  traffic_.row_owners += static_cast<int64_t>(sent_rows.size());
  const Tensor arrived = Dispatch(pass, weights, h, sent_rows, sent_counts, received_counts);

  std::vector<int64_t> returned_counts;
  const Tensor returned = Subtrees(pass, weights, routing, received, arrived, returned_counts);

  // The subtrees of my rows from every owner, then the joins up to the root.
  std::vector<NodeRows> found(h.rows, NodeRows(tree_.nodes().size()));
  std::vector<int64_t> coming_counts;
  int32_t coming = 0;
  for (int owner = 0; owner < lanes; ++owner) {
    const int32_t before = coming;
    const auto [first_leaf, end_leaf] = tree_.Owned(owner);
    const std::vector<int32_t> subtrees = tree_.Subtrees(first_leaf, end_leaf);
    for (const int64_t row : sent[owner]) {
      for (const int32_t subtree : subtrees) {
        if (Present(tree_, subtree, routing.IdsOf(me, row))) found[row][subtree] = coming++;
      }
    }
    coming_counts.push_back(coming - before);
  }
  JoinPlan plan(tree_, coming);
  std::vector<int64_t> roots;
  for (int64_t row = 0; row < h.rows; ++row) {
    const auto root = plan.Join(tree_.root(), found[row]);
    SLUICE_CHECK(root.has_value(), "row {} chose no expert", row);
    roots.push_back(*root);
  }
  const Tensor nodes = pass.NewActivation(plan.rows(), h.cols);
  ExchangeRows(pass, "return expert sums", returned, returned_counts, nodes.RowRange(0, coming),
               coming_counts);
  traffic_.return_bytes += (returned.rows - returned_counts[me]) * returned.cols * SizeOf(returned.dtype);
  ops.JoinNodes(plan.joins(), nodes);
  const Tensor out = pass.NewActivation(h.rows, h.cols);
  ops.CopyRows(nodes, roots, out);
  if (weights.shared_experts.has_value()) ops.Add(MlpForward(pass, *weights.shared_experts, h), out);
  return out;
}

}  // namespace sluice::model
