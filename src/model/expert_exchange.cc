#include "model/expert_exchange.h"

#include <algorithm>
#include <numeric>

namespace sluice::model {

Routing::Routing(const Tensor& choices, Memory& memory, const std::vector<int64_t>& rows_of_lanes)
    : both(choices, memory), ids(both.view().ColRange(0, choices.cols / 2)), first_row{0} {
  for (const int64_t rows : rows_of_lanes) first_row.push_back(first_row.back() + rows);
}

int64_t CountBelow(const ExpertTree& tree, const ops::Subtree& subtree, std::span<const int32_t> ids) {
  const auto [first, end] = tree.ExpertsOf(subtree.first, subtree.end);
  return std::count_if(ids.begin(), ids.end(), [&](int32_t id) { return id >= first && id < end; });
}

bool Present(const ExpertTree& tree, int32_t node, std::span<const int32_t> ids) {
  const auto& [first_leaf, end_leaf, left, right] = tree.nodes()[node];
  return CountBelow(tree, {static_cast<int32_t>(first_leaf), static_cast<int32_t>(end_leaf)}, ids) > 0;
}

std::vector<int64_t> RowsFor(const ExpertTree& tree, const Routing& routing, int lane, int owner) {
  const auto [first_leaf, end_leaf] = tree.Owned(owner);
  const ops::Subtree owned{static_cast<int32_t>(first_leaf), static_cast<int32_t>(end_leaf)};
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < routing.RowsOf(lane); ++row) {
    if (CountBelow(tree, owned, routing.IdsOf(lane, row)) > 0) rows.push_back(row);
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

std::optional<int32_t> JoinPlan::Join(int32_t node, const NodeRows& known) {
  const ExpertTree::Node& at = tree_.nodes()[node];
  if (known[node].has_value() || at.left < 0) return known[node];
  const auto left = Join(at.left, known);
  const auto right = Join(at.right, known);
  if (!left.has_value()) return right;
  if (!right.has_value()) return left;
  joins_.push_back({*left, *right, rows_});
  return rows_++;
}

}  // namespace sluice::model
