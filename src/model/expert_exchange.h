#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "model/expert_tree.h"
#include "model/pass.h"
#include "ops/ops.h"

// Who sends which rows to whom when the experts of a layer are spread over the lanes and a step has many
// rows, and how the parts of a row's sum find each other again. Everything here follows from the gathered
// expert choices alone, so every lane works out the same plan and no counts are exchanged.
namespace sluice::model {

// Leaves of an ExpertTree; bit l is leaf l.
using LeafSet = uint32_t;
static_assert(ops::kMostLeaves <= 32);

// Leaves [first, end).
constexpr LeafSet LeavesBetween(int64_t first, int64_t end) {
  return static_cast<LeafSet>((uint64_t{1} << end) - (uint64_t{1} << first));
}
// Those below `node`.
inline LeafSet LeavesBelow(const ExpertTree& tree, int32_t node) {
  return LeavesBetween(tree.nodes()[node].first_leaf, tree.nodes()[node].end_leaf);
}

// Which leaves every row of the step chose experts of: rows of all lanes, lane 0's first. What the device can
// do while the host plans a layer is not much, so each choice is looked at once, here, and no row's way
// through the loops is a branch.
class Routing {
 public:
  // `choices` [T of the step, 2 * top_k] I32 in host memory, which stay: ids | weights.
  Routing(const ExpertTree& tree, const Tensor& choices, const std::vector<int64_t>& rows_of_lanes);

  int64_t FirstRowOf(int lane) const { return first_row_[lane]; }
  int64_t RowsOf(int lane) const { return first_row_[lane + 1] - first_row_[lane]; }
  LeafSet LeavesOf(int lane, int64_t local_row) const { return chosen_[first_row_[lane] + local_row]; }
  // How many choices of all rows are experts [first, end).
  int64_t ChoicesOf(int64_t first, int64_t end) const;

 private:
  Tensor ids_;                      // [T, top_k]
  std::vector<int64_t> first_row_;  // of each lane, and the end
  std::vector<LeafSet> chosen_;     // of each row
};

// The rows of `lane` that chose an expert of `owner`, ascending: what `lane` sends to `owner`.
std::vector<int64_t> RowsFor(const ExpertTree& tree, const Routing& routing, int lane, int owner);

// The bytes of a contiguous tensor cut into parts of so many rows.
std::vector<std::span<std::byte>> PartsOf(const Tensor& tensor, const std::vector<int64_t>& rows);
// The first row of a part.
int64_t FirstRow(const std::vector<int64_t>& rows, int part);

// Sends rows of `from` to the lanes in order, from_counts[lane] to each, and receives to_counts[lane] rows
// from each into `to`. Both contiguous and of one dtype and width. `made`: a mark behind which no op touches
// them (Ops::Mark); null: the rows are as all ops called so far leave them.
void ExchangeRows(const Pass& pass, std::string_view op, const Tensor& from,
                  const std::vector<int64_t>& from_counts, const Tensor& to,
                  const std::vector<int64_t>& to_counts, const StreamMark* made = nullptr);

// Rows of a tensor of nodes that hold the value of each tree node of one token, or kAbsent.
using NodeRows = std::span<const int32_t>;
inline constexpr int32_t kAbsent = -1;

// Lists the joins that bring known nodes of many tokens up to the nodes that are asked for. Joined values go
// to the rows from `first_free` on.
class JoinPlan {
 public:
  JoinPlan(const ExpertTree& tree, int64_t first_free)
      : tree_(tree), rows_(static_cast<int32_t>(first_free)) {}

  // The row that will hold `node` of a token of which `known` nodes are there; kAbsent when all below is.
  int32_t Join(int32_t node, NodeRows known);

  const std::vector<ops::NodeJoin>& joins() const { return joins_; }
  int64_t rows() const { return rows_; }  // of the tensor of nodes

 private:
  const ExpertTree& tree_;
  std::vector<ops::NodeJoin> joins_;
  int32_t rows_;
};

}  // namespace sluice::model
