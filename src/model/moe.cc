#include "model/moe.h"

#include <array>
#include <cstring>
#include <optional>

#include "model/shapes.h"

namespace sluice::model {
namespace {

using Leaves = std::array<std::vector<ops::ExpertTerm>, 16>;

// Collects what SumTerms and JoinNodes must do for many rows: leaf sums first, then joins, all into one
// tensor of nodes.
class SumPlan {
 public:
  // Value of `node` for one row, given which leaves are present and the rows of their sums; none if absent.
  std::optional<int32_t> Join(const ExpertTree& tree, int32_t node,
                              const std::vector<std::optional<int32_t>>& known) {
    if (known[node].has_value() || tree.nodes()[node].left < 0) return known[node];
    const auto left = Join(tree, tree.nodes()[node].left, known);
    const auto right = Join(tree, tree.nodes()[node].right, known);
    if (!left.has_value()) return right;
    if (!right.has_value()) return left;
    joins.push_back({*left, *right, next_node_++});
    return next_node_ - 1;
  }
  // Joins get the node rows from `first` on.
  void StartJoins(int64_t first) { next_node_ = static_cast<int32_t>(first); }
  int64_t nodes() const { return next_node_; }

  std::vector<ops::NodeJoin> joins;

 private:
  int32_t next_node_ = 0;
};

}  // namespace

// Which experts every row of the step chose: [rows of all lanes, top_k], lane 0's rows first.
struct Moe::Routing {
  Tensor ids;                      // I32, ascending in a row
  Tensor weights;                  // F32
  std::vector<int64_t> first_row;  // of each lane, and the end

  std::span<const int32_t> IdsOf(int lane, int64_t local_row) const {
    return {ids.Row<int32_t>(first_row[lane] + local_row), static_cast<size_t>(ids.cols)};
  }
  const float* WeightsOf(int lane, int64_t local_row) const {
    return weights.Row<float>(first_row[lane] + local_row);
  }
};

Moe::Moe(const checkpoint::ModelConfig& config) : shape_(RouterShapeOf(config)), tree_(config.n_routed_experts) {}

Tensor MlpForward(const Pass& pass, const MlpWeights& mlp, const Tensor& h) {
  const Tensor gate = pass.NewActivation(h.rows, mlp.gate_proj->rows());
  const Tensor up = pass.NewActivation(h.rows, mlp.up_proj->rows());
  pass.ops().Linear(h, *mlp.gate_proj, gate);
  pass.ops().Linear(h, *mlp.up_proj, up);
  pass.ops().SwiGlu(gate, up, gate);
  const Tensor out = pass.NewActivation(h.rows, mlp.down_proj->rows());
  pass.ops().Linear(gate, *mlp.down_proj, out);
  return out;
}

Moe::Routing Moe::Route(const Pass& pass, const MoeWeights& weights, const Tensor& h) const {
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
  Routing routing{all.ColRange(0, shape_.top_k), weight_half(all), {0}};
  for (int lane = 0; lane < pass.split().lanes(); ++lane) {
    routing.first_row.push_back(routing.first_row.back() + pass.split().CountOf(lane));
  }
  return routing;
}

std::vector<int64_t> Moe::RowsFor(const Routing& routing, int lane, int owner, int owners) const {
  const auto [first_leaf, end_leaf] = tree_.Owned(owner, owners);
  const auto [first, end] = tree_.ExpertsOf(first_leaf, end_leaf);
  std::vector<int64_t> rows;
  const int64_t count = routing.first_row[lane + 1] - routing.first_row[lane];
  for (int64_t row = 0; row < count; ++row) {
    for (const int32_t id : routing.IdsOf(lane, row)) {
      if (id >= first && id < end) {
        rows.push_back(row);
        break;
      }
    }
  }
  return rows;
}

Tensor Moe::Forward(const Pass& pass, const MoeWeights& weights, const Tensor& h) const {
  ops::Ops& ops = pass.ops();
  const int lanes = pass.split().lanes();
  const int me = pass.lane();
  const int64_t hidden = h.cols;
  const int64_t row_bytes = hidden * SizeOf(h.dtype);
  const Routing routing = Route(pass, weights, h);

  // ---- dispatch: my rows to the owners of the experts they chose; others' rows to me ----
  std::vector<std::vector<int64_t>> sent(lanes);      // my local rows, per owner
  std::vector<std::vector<int64_t>> received(lanes);  // rows local to each lane
  std::vector<int64_t> packed;
  int64_t arriving = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    sent[lane] = RowsFor(routing, me, lane, lanes);
    packed.insert(packed.end(), sent[lane].begin(), sent[lane].end());
    received[lane] = RowsFor(routing, lane, me, lanes);
    arriving += static_cast<int64_t>(received[lane].size());
  }
  // Sends [rows of each lane] from one tensor and receives into another, `counts` rows at a time.
  const auto exchange = [&](const char* op, const Tensor& from, const std::vector<int64_t>& from_counts,
                            const Tensor& to, const std::vector<int64_t>& to_counts) {
    std::vector<std::span<const std::byte>> send;
    std::vector<std::span<std::byte>> receive;
    int64_t from_row = 0;
    int64_t to_row = 0;
    for (int lane = 0; lane < lanes; ++lane) {
      send.push_back(BytesOf(from).subspan(from_row * row_bytes, from_counts[lane] * row_bytes));
      receive.push_back(BytesOf(to).subspan(to_row * row_bytes, to_counts[lane] * row_bytes));
      from_row += from_counts[lane];
      to_row += to_counts[lane];
    }
    pass.lanes().AllToAll(op, send, receive);
  };
  const auto counts = [&](const std::vector<std::vector<int64_t>>& rows) {
    std::vector<int64_t> result;
    for (const auto& of_lane : rows) result.push_back(static_cast<int64_t>(of_lane.size()));
    return result;
  };
  const Tensor outgoing = pass.NewActivation(static_cast<int64_t>(packed.size()), hidden);
  ops.CopyRows(h, packed, outgoing);
  const Tensor arrived = pass.NewActivation(arriving, hidden);
  exchange("dispatch rows to experts", outgoing, counts(sent), arrived, counts(received));

  // ---- experts: the arrived rows, grouped by expert ----
  const auto expert_count = static_cast<int64_t>(weights.experts.size());
  std::vector<std::vector<int64_t>> rows_of_expert(expert_count);
  int64_t arrived_row = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    for (const int64_t row : received[lane]) {
      for (const int32_t id : routing.IdsOf(lane, row)) {
        const int64_t local = id - weights.first_expert;
        if (local >= 0 && local < expert_count) rows_of_expert[local].push_back(arrived_row);
      }
      ++arrived_row;
    }
  }
  std::vector<int64_t> offsets{0};
  std::vector<int64_t> grouped;
  for (const auto& rows : rows_of_expert) {
    grouped.insert(grouped.end(), rows.begin(), rows.end());
    offsets.push_back(static_cast<int64_t>(grouped.size()));
  }
  const auto experts = [&](WeightPtr MlpWeights::* part) {
    std::vector<const ops::Weight*> list;
    for (const auto& expert : weights.experts) list.push_back((expert.*part).get());
    return list;
  };
  const auto pairs = static_cast<int64_t>(grouped.size());
  const Tensor expert_in = pass.NewActivation(pairs, hidden);
  ops.CopyRows(arrived, grouped, expert_in);
  const Tensor expert_out = pass.NewActivation(pairs, hidden);
  if (expert_count > 0) {
    const int64_t inner = weights.experts.front().gate_proj->rows();
    const Tensor gate = pass.NewActivation(pairs, inner);
    const Tensor up = pass.NewActivation(pairs, inner);
    ops.GroupedLinear(expert_in, offsets, experts(&MlpWeights::gate_proj), gate);
    ops.GroupedLinear(expert_in, offsets, experts(&MlpWeights::up_proj), up);
    ops.SwiGlu(gate, up, gate);
    ops.GroupedLinear(gate, offsets, experts(&MlpWeights::down_proj), expert_out);
  }

  // ---- my leaves and subtrees of every arrived row ----
  const auto [first_leaf, end_leaf] = tree_.Owned(me, lanes);
  const std::vector<int32_t> my_subtrees = tree_.Subtrees(first_leaf, end_leaf);
  std::vector<ops::ExpertTerm> terms;
  std::vector<int64_t> term_offsets{0};
  std::vector<std::vector<std::optional<int32_t>>> known(arriving,
                                                         std::vector<std::optional<int32_t>>(tree_.nodes().size()));
  std::vector<int64_t> next_in_group(offsets.begin(), offsets.end());  // walks each expert's rows in order
  arrived_row = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    for (const int64_t row : received[lane]) {
      const auto ids = routing.IdsOf(lane, row);
      const float* weight = routing.WeightsOf(lane, row);
      for (size_t k = 0; k < ids.size(); ++k) {
        const int64_t local = ids[k] - weights.first_expert;
        if (local < 0 || local >= expert_count) continue;
        auto& leaf = known[arrived_row][tree_.LeafOf(ids[k])];
        if (!leaf.has_value()) {
          leaf = static_cast<int32_t>(term_offsets.size()) - 1;
          term_offsets.push_back(term_offsets.back());
        }
        terms.push_back({static_cast<int32_t>(next_in_group[local]++), weight[k]});
        ++term_offsets.back();
      }
      ++arrived_row;
    }
  }
  SumPlan plan;
  const auto leaf_sums = static_cast<int64_t>(term_offsets.size()) - 1;
  plan.StartJoins(leaf_sums);
  std::vector<int64_t> returned;  // node rows, in the order they travel
  std::vector<int64_t> returned_counts;
  arrived_row = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    const size_t before = returned.size();
    for (size_t i = 0; i < received[lane].size(); ++i, ++arrived_row) {
      for (const int32_t subtree : my_subtrees) {
        if (const auto node = plan.Join(tree_, subtree, known[arrived_row])) returned.push_back(*node);
      }
    }
    returned_counts.push_back(static_cast<int64_t>(returned.size() - before));
  }
  const Tensor nodes = pass.NewActivation(plan.nodes(), hidden);
  ops.SumTerms(expert_out, terms, term_offsets, nodes.RowRange(0, leaf_sums));
  ops.JoinNodes(plan.joins, nodes);
  const Tensor going_back = pass.NewActivation(static_cast<int64_t>(returned.size()), hidden);
  ops.CopyRows(nodes, returned, going_back);

  // ---- return: the subtrees of my rows from every owner, joined up to the root ----
  std::vector<std::vector<std::optional<int32_t>>> found(h.rows,
                                                         std::vector<std::optional<int32_t>>(tree_.nodes().size()));
  std::vector<int64_t> coming_counts;
  int32_t next_subtree = 0;
  for (int owner = 0; owner < lanes; ++owner) {
    const int32_t before = next_subtree;
    const auto [first, end] = tree_.Owned(owner, lanes);
    for (const int64_t row : sent[owner]) {
      for (const int32_t subtree : tree_.Subtrees(first, end)) {
        const auto& node = tree_.nodes()[subtree];
        for (const int32_t id : routing.IdsOf(me, row)) {
          const int64_t leaf = tree_.LeafOf(id);
          if (leaf >= node.first_leaf && leaf < node.end_leaf) {
            found[row][subtree] = next_subtree++;
            break;
          }
        }
      }
    }
    coming_counts.push_back(next_subtree - before);
  }
  SumPlan rest;
  rest.StartJoins(next_subtree);
  std::vector<int64_t> roots;
  for (int64_t row = 0; row < h.rows; ++row) {
    const auto sum = rest.Join(tree_, tree_.root(), found[row]);
    SLUICE_CHECK(sum.has_value(), "row {} chose no expert", row);
    roots.push_back(*sum);
  }
  const Tensor subtrees = pass.NewActivation(rest.nodes(), hidden);
  exchange("return expert sums", going_back, returned_counts, subtrees.RowRange(0, next_subtree), coming_counts);
  ops.JoinNodes(rest.joins, subtrees);
  const Tensor out = pass.NewActivation(h.rows, hidden);
  ops.CopyRows(subtrees, roots, out);
  if (weights.shared_experts.has_value()) ops.Add(MlpForward(pass, *weights.shared_experts, h), out);
  return out;
}

}  // namespace sluice::model
