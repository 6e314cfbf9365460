#include <algorithm>

#include "ops/cuda/back_end.h"
#include "ops/cuda/check.h"
#include "ops/cuda/expert_plan.h"
#include "ops/cuda/expert_sum.h"
#include "ops/cuda/expert_tree_sum.h"
#include "ops/cuda/join_ranges.h"
#include "ops/cuda/route.h"

namespace sluice::ops::cuda {

void CudaOps::Route(const RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
                    const Tensor& weights) {
  cuda::Route work;
  work.rows = logits.rows;
  work.experts = static_cast<int32_t>(shape.experts);
  work.groups = static_cast<int32_t>(shape.groups);
  work.top_groups = static_cast<int32_t>(shape.top_groups);
  work.top_k = static_cast<int32_t>(shape.top_k);
  work.normalize = shape.normalize;
  work.scale = shape.scale;
  work.logits = logits.Row<const float>(0);
  work.logits_stride = logits.stride;
  work.bias = bias.Row<const float>(0);
  work.ids = ids.Row<int32_t>(0);
  work.ids_stride = ids.stride;
  work.weights = weights.Row<float>(0);
  work.weights_stride = weights.stride;
  Run(work, ids.data, "Route of {} rows over {} experts", work.rows, work.experts);
}

void CudaOps::PlanExperts(const Tensor& ids, int64_t first_expert, const ExpertPlan& plan) {
  SLUICE_CHECK(plan.groups.cols == 3 && plan.groups.contiguous() && plan.pairs.rows == ids.rows &&
               plan.pairs.cols == ids.cols);
  cuda::PlanExperts work;
  work.rows = ids.rows;
  work.top_k = static_cast<int32_t>(ids.cols);
  work.ids = ids.Row<const int32_t>(0);
  work.ids_stride = ids.stride;
  work.first_expert = static_cast<int32_t>(first_expert);
  work.experts = static_cast<int32_t>(plan.groups.rows);
  work.pair_rows = plan.rows.Row<int32_t>(0);
  work.pairs = plan.rows.cols;
  work.groups = plan.groups.Row<RowGroup>(0);
  work.pair_of = plan.pairs.Row<int32_t>(0);
  work.pair_of_stride = plan.pairs.stride;
  Run(work, plan.pairs.data, "PlanExperts of {} rows over {} experts", work.rows, work.experts);
}

void CudaOps::SumExperts(const Tensor& y, const Tensor& pairs, const ExpertChoices& choices,
                         const ExpertLeaves& leaves, std::span<const Subtree> subtrees, const Tensor& nodes) {
  SLUICE_CHECK(y.dtype == DType::kBF16 && nodes.dtype == DType::kBF16 &&
               std::ssize(subtrees) <= kMostLeaves && nodes.rows == pairs.rows * std::ssize(subtrees));
  cuda::SumExperts work;
  work.rows = pairs.rows;
  work.top_k = static_cast<int32_t>(pairs.cols);
  work.width = nodes.cols;
  work.y = y.data;
  work.y_stride = y.stride;
  work.pairs = pairs.Row<const int32_t>(0);
  work.pairs_stride = pairs.stride;
  work.ids = choices.ids.Row<const int32_t>(0);
  work.ids_stride = choices.ids.stride;
  work.weights = choices.weights.Row<const float>(0);
  work.weights_stride = choices.weights.stride;
  work.leaves = leaves;
  work.subtree_count = static_cast<int32_t>(subtrees.size());
  std::ranges::copy(subtrees, work.subtrees);
  work.nodes = nodes.data;
  work.nodes_stride = nodes.stride;
  Run(work, nodes.data, "SumExperts of {} rows, {} subtrees of each", work.rows, work.subtree_count);
}

void CudaOps::JoinSubtrees(const Tensor& nodes, const Tensor& ids, const ExpertLeaves& leaves,
                           std::span<const SubtreeRows> subtrees, const Tensor& out) {
  SLUICE_CHECK(nodes.dtype == DType::kBF16 && out.dtype == DType::kBF16);
  cuda::JoinSubtrees work;
  work.rows = out.rows;
  work.top_k = static_cast<int32_t>(ids.cols);
  work.width = out.cols;
  work.nodes = nodes.data;
  work.nodes_stride = nodes.stride;
  work.ids = ids.Row<const int32_t>(0);
  work.ids_stride = ids.stride;
  work.leaves = leaves;
  for (const SubtreeRows& subtree : subtrees) work.subtrees[subtree.leaves.first] = subtree;
  work.out = out.data;
  work.out_stride = out.stride;
  Run(work, out.data, "JoinSubtrees of {} rows", work.rows);
}

void CudaOps::SumTerms(const Tensor& y, std::span<const ExpertTerm> terms, std::span<const int64_t> offsets,
                       const Tensor& out) {
  ReserveLists(static_cast<int64_t>(terms.size_bytes() + offsets.size_bytes()), 2);
  cuda::SumTerms work;
  work.rows = out.rows;
  work.width = out.cols;
  work.y = y.data;
  work.y_type = y.dtype;
  work.y_stride = y.stride;
  work.terms = Put(terms);
  work.offsets = Put(offsets);
  work.out = out.data;
  work.out_type = out.dtype;
  work.out_stride = out.stride;
  Run(work, out.data, "SumTerms of {} terms into {} rows", terms.size(), out.rows);
}

void CudaOps::JoinNodes(std::span<const NodeJoin> joins, const Tensor& nodes) {
  if (joins.empty()) return;
  const std::vector<int64_t> ranges = IndependentRanges(joins, nodes.rows);
  ReserveLists(
      static_cast<int64_t>(joins.size_bytes()) + std::ssize(ranges) * static_cast<int64_t>(sizeof(int64_t)),
      2);
  cuda::JoinNodes work;
  work.width = nodes.cols;
  work.joins = Put(joins);
  work.join_count = std::ssize(joins);
  work.ranges = Put(ranges);
  work.range_count = std::ssize(ranges) - 1;
  work.nodes = nodes.data;
  work.nodes_stride = nodes.stride;
  Run(work, nodes.data, "JoinNodes of {} joins", joins.size());
}

}  // namespace sluice::ops::cuda
