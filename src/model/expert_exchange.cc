#include "model/expert_exchange.h"

#include <algorithm>

namespace sluice::model {
namespace {

// True when an id lies in [range.first, range.second).
bool AnyIn(std::span<const int32_t> ids, std::pair<int64_t, int64_t> range) {
  return std::any_of(ids.begin(), ids.end(),
                     [&](int32_t id) { return id >= range.first && id < range.second; });
}

}  // namespace

bool Present(const ExpertTree& tree, int32_t node, std::span<const int32_t> ids) {
  return AnyIn(ids, tree.ExpertsOf(tree.nodes()[node].first_leaf, tree.nodes()[node].end_leaf));
}

std::vector<int64_t> RowsFor(const ExpertTree& tree, const Routing& routing, int lane, int owner) {
  const auto [first_leaf, end_leaf] = tree.Owned(owner);
  const auto experts = tree.ExpertsOf(first_leaf, end_leaf);
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < routing.RowsOf(lane); ++row) {
    if (AnyIn(routing.IdsOf(lane, row), experts)) rows.push_back(row);
  }
  return rows;
}

void ExchangeRows(const Pass& pass, std::string_view op, const Tensor& from,
                  const std::vector<int64_t>& from_counts, const Tensor& to,
                  const std::vector<int64_t>& to_counts) {
  const int64_t row_bytes = from.cols * SizeOf(from.dtype);
  std::vector<std::span<const std::byte>> send;
  std::vector<std::span<std::byte>> receive;
  int64_t from_row = 0;
  int64_t to_row = 0;
  for (int lane = 0; lane < pass.split().lanes(); ++lane) {
    send.push_back(BytesOf(from).subspan(from_row * row_bytes, from_counts[lane] * row_bytes));
    receive.push_back(BytesOf(to).subspan(to_row * row_bytes, to_counts[lane] * row_bytes));
    from_row += from_counts[lane];
    to_row += to_counts[lane];
  }
  pass.lanes().AllToAll(op, send, receive);
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
