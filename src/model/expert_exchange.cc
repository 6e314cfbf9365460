#include "model/expert_exchange.h"

#include <numeric>

namespace sluice::model {

Routing::Routing(const ExpertTree& tree, const Tensor& choices, const std::vector<int64_t>& rows_of_lanes)
    : ids_(choices.ColRange(0, choices.cols / 2)), first_row_{0}, chosen_(static_cast<size_t>(ids_.rows)) {
  for (const int64_t rows : rows_of_lanes) first_row_.push_back(first_row_.back() + rows);
  const auto [first_expert, experts] = tree.ExpertsOf(0, tree.leaves());
  std::vector<LeafSet> leaf_of;  // of each expert
  for (int64_t expert = first_expert; expert < experts; ++expert) {
    const int64_t leaf = tree.LeafOf(expert);
    leaf_of.push_back(LeavesBetween(leaf, leaf + 1));
  }
  for (int64_t row = 0; row < ids_.rows; ++row) {
    LeafSet leaves = 0;
    const auto* ids = ids_.Row<const int32_t>(row);
    for (int64_t k = 0; k < ids_.cols; ++k) leaves |= leaf_of[static_cast<size_t>(ids[k])];
    chosen_[static_cast<size_t>(row)] = leaves;
  }
}

int64_t Routing::ChoicesOf(int64_t first, int64_t end) const {
  int32_t count = 0;
  const auto low = static_cast<uint32_t>(first);
  const auto width = static_cast<uint32_t>(end - first);
  for (int64_t row = 0; row < ids_.rows; ++row) {
    const auto* ids = ids_.Row<const int32_t>(row);
    for (int64_t k = 0; k < ids_.cols; ++k) {
      count += static_cast<uint32_t>(ids[k]) - low < width ? 1 : 0;
    }
  }
  return count;
}

std::vector<int64_t> RowsFor(const ExpertTree& tree, const Routing& routing, int lane, int owner) {
  const auto [first_leaf, end_leaf] = tree.Owned(owner);
  const LeafSet owned = LeavesBetween(first_leaf, end_leaf);
  std::vector<int64_t> rows(static_cast<size_t>(routing.RowsOf(lane)));
  size_t found = 0;
  for (int64_t row = 0; row < routing.RowsOf(lane); ++row) {
    rows[found] = row;
    found += (routing.LeavesOf(lane, row) & owned) != 0 ? 1 : 0;
  }
  rows.resize(found);
  return rows;
}

std::vector<std::span<std::byte>> PartsOf(const Tensor& tensor, const std::vector<int64_t>& rows) {
  const int64_t row_bytes = tensor.cols * SizeOf(tensor.dtype);
  std::vector<std::span<std::byte>> parts;
  int64_t first = 0;
  for (const int64_t count : rows) {
    parts.push_back(BytesOf(tensor).subspan(first * row_bytes, count * row_bytes));
    first += count;
  }
  return parts;
}

int64_t FirstRow(const std::vector<int64_t>& rows, int part) {
  return std::accumulate(rows.begin(), rows.begin() + part, int64_t{0});
}

void ExchangeRows(const Pass& pass, std::string_view op, const Tensor& from,
                  const std::vector<int64_t>& from_counts, const Tensor& to,
                  const std::vector<int64_t>& to_counts, const StreamMark* made) {
  const auto send = PartsOf(from, from_counts);
  const comm::Communicator::Behind behind(pass.lanes(), made);
  pass.lanes().AllToAll(op, std::vector<std::span<const std::byte>>(send.begin(), send.end()),
                        PartsOf(to, to_counts));
}

int32_t JoinPlan::Join(int32_t node, NodeRows known) {
  const ExpertTree::Node& at = tree_.nodes()[node];
  if (known[node] != kAbsent || at.left < 0) return known[node];
  const int32_t left = Join(at.left, known);
  const int32_t right = Join(at.right, known);
  if (left == kAbsent) return right;
  if (right == kAbsent) return left;
  joins_.push_back({left, right, rows_});
  return rows_++;
}

}  // namespace sluice::model
