#include "model/expert_exchange.h"

#include <numeric>

namespace sluice::model {

Routing::Routing(const ExpertTree& tree, const Tensor& choices, const std::vector<int64_t>& rows_of_lanes)
    : first_row_{0}, choices_(static_cast<size_t>(tree.leaves())) {
  for (const int64_t rows : rows_of_lanes) first_row_.push_back(first_row_.back() + rows);
  const Tensor ids = choices.ColRange(0, choices.cols / 2);
  chosen_.reserve(static_cast<size_t>(ids.rows));
  for (int64_t row = 0; row < ids.rows; ++row) {
    LeafSet leaves = 0;
    for (const int32_t id : std::span(ids.Row<const int32_t>(row), static_cast<size_t>(ids.cols))) {
      const int64_t leaf = tree.LeafOf(id);
      leaves |= LeavesBetween(leaf, leaf + 1);
      ++choices_[static_cast<size_t>(leaf)];
    }
    chosen_.push_back(leaves);
  }
}

int64_t Routing::ChoicesIn(int64_t first, int64_t end) const {
  return std::accumulate(choices_.begin() + first, choices_.begin() + end, int64_t{0});
}

std::vector<int64_t> RowsFor(const ExpertTree& tree, const Routing& routing, int lane, int owner) {
  const auto [first_leaf, end_leaf] = tree.Owned(owner);
  const LeafSet owned = LeavesBetween(first_leaf, end_leaf);
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < routing.RowsOf(lane); ++row) {
    if ((routing.LeavesOf(lane, row) & owned) != 0) rows.push_back(row);
  }
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
                  const std::vector<int64_t>& to_counts) {
  const auto send = PartsOf(from, from_counts);
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
