#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <vector>

#include "base/error.h"
#include "ops/cpu/rows.h"

namespace sluice::ops::cpu {
namespace {

// The values of one row's tree nodes, each at the place of its first leaf: rows of a scratch tensor.
class TreeRow {
 public:
  TreeRow(DType dtype, int64_t cols) : values_(dtype, kMostLeaves, cols) {}

  // Where the value of the subtree that begins with `leaf` is to be put.
  Tensor Put(int32_t leaf) {
    present_[static_cast<size_t>(leaf)] = true;
    return values_.view().RowRange(leaf, 1);
  }

  // Joins all that was put, neighbours first, into `out`, a row of the same dtype, and forgets it. Places
  // without a value are absent sides. False: nothing was put, and `out` is as it was.
  bool Join(const Tensor& out) {
    std::vector<NodeJoin> joins;
    std::array<int32_t, kMostLeaves> at{};  // where the value of a node is by now
    for (int32_t leaf = 0; leaf < kMostLeaves; ++leaf) at[leaf] = present_[leaf] ? leaf : -1;
    for (int32_t half = 1; half < kMostLeaves; half *= 2) {
      for (int32_t left = 0; left < kMostLeaves; left += 2 * half) {
        const int32_t right = at[left + half];
        if (at[left] >= 0 && right >= 0) joins.push_back({at[left], right, at[left]});
        if (at[left] < 0) at[left] = right;
      }
    }
    present_ = {};
    if (at[0] < 0) return false;
    JoinNodesColumns(joins, values_, 0, out.cols);
    std::memcpy(out.data, values_.view().RowRange(at[0], 1).data, out.bytes());
    return true;
  }

 private:
  OwnedTensor values_;
  std::array<bool, kMostLeaves> present_{};
};

// The leaf that holds an expert.
int32_t LeafOf(const ExpertLeaves& leaves, int32_t expert) {
  return static_cast<int32_t>(((expert + int64_t{1}) * leaves.count - 1) / leaves.experts);
}

}  // namespace

void PlanExperts(const Tensor& ids, int64_t first_expert, const ExpertPlan& plan) {
  const int64_t experts = plan.groups.rows;
  std::vector<int32_t> end(static_cast<size_t>(experts) + 1, 0);  // of expert e - 1, then the next free pair
  const auto owned = [&](int32_t id) { return id >= first_expert && id < first_expert + experts; };
  for (int64_t t = 0; t < ids.rows; ++t) {
    for (int64_t k = 0; k < ids.cols; ++k) {
      if (const auto id = ids.At<const int32_t>(t, k); owned(id)) ++end[id - first_expert + 1];
    }
  }
  for (int64_t e = 0; e < experts; ++e) {
    end[e + 1] += end[e];
    auto* group = plan.groups.Row<int32_t>(e);
    group[0] = end[e];
    group[1] = end[e + 1];
    group[2] = static_cast<int32_t>(e);
  }
  SLUICE_CHECK(plan.rows.cols >= end.back(), "{} pairs where {} fit", end.back(), plan.rows.cols);
  auto* rows = plan.rows.Row<int32_t>(0);
  std::fill(rows + end.back(), rows + plan.rows.cols, -1);
  for (int64_t t = 0; t < ids.rows; ++t) {
    for (int64_t k = 0; k < ids.cols; ++k) {
      const auto id = ids.At<const int32_t>(t, k);
      const int32_t pair = owned(id) ? end[id - first_expert]++ : -1;
      plan.pairs.At<int32_t>(t, k) = pair;
      if (pair >= 0) rows[pair] = static_cast<int32_t>(t);
    }
  }
}

void SumExpertsRange(const Tensor& y, const Tensor& pairs, const ExpertChoices& choices,
                     const ExpertLeaves& leaves, std::span<const Subtree> subtrees, const Tensor& nodes,
                     int64_t begin, int64_t end) {
  TreeRow tree(nodes.dtype, nodes.cols);
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t s = 0; s < std::ssize(subtrees); ++s) {
      const auto [first_leaf, end_leaf] = subtrees[s];
      std::array<std::vector<ExpertTerm>, kMostLeaves> terms;
      for (int64_t k = 0; k < pairs.cols; ++k) {
        const auto pair = pairs.At<const int32_t>(t, k);
        const int32_t leaf = LeafOf(leaves, choices.ids.At<const int32_t>(t, k));
        if (pair < 0 || leaf < first_leaf || leaf >= end_leaf) continue;
        terms[leaf].push_back({pair, choices.weights.At<const float>(t, k)});
      }
      for (int32_t leaf = first_leaf; leaf < end_leaf; ++leaf) {
        const std::array<int64_t, 2> all{0, std::ssize(terms[leaf])};
        if (!terms[leaf].empty()) SumTermsRows(y, terms[leaf], all, tree.Put(leaf), 0, 1);
      }
      tree.Join(nodes.RowRange(t * std::ssize(subtrees) + s, 1));
    }
  }
}

void JoinSubtreesRange(const Tensor& nodes, const Tensor& ids, const ExpertLeaves& leaves,
                       std::span<const SubtreeRows> subtrees, const Tensor& out, int64_t begin, int64_t end) {
  TreeRow tree(nodes.dtype, nodes.cols);
  for (int64_t t = begin; t < end; ++t) {
    std::array<bool, kMostLeaves> chosen{};
    for (int64_t k = 0; k < ids.cols; ++k) chosen[LeafOf(leaves, ids.At<const int32_t>(t, k))] = true;
    for (const auto& [node, first_row, row_step] : subtrees) {
      if (!std::any_of(chosen.begin() + node.first, chosen.begin() + node.end, std::identity())) continue;
      const Tensor to = tree.Put(node.first);
      std::memcpy(to.data, nodes.RowRange(first_row + t * row_step, 1).data, to.bytes());
    }
    tree.Join(out.RowRange(t, 1));
  }
}

}  // namespace sluice::ops::cpu
