#include <algorithm>

#include "ops/cuda/back_end.h"
#include "ops/cuda/check.h"
#include "ops/cuda/expert_plan.h"
#include "ops/cuda/expert_sum.h"
#include "ops/cuda/expert_tree_sum.h"
#include "ops/cuda/join_ranges.h"
#include "ops/cuda/reserved.h"
#include "ops/cuda/route.h"
#include "ops/cuda/sampling.h"
#include "ops/sampling.h"

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

std::vector<Sampled> CudaOps::Sample(const Tensor& logits, std::span<const SamplingParams> params,
                                     std::span<const LogitAdjust> adjusts,
                                     std::span<const int64_t> positions) {
  std::vector<Sampled> sampled;
  for (int64_t t = 0; t < logits.rows; ++t) {
    const Tensor row = logits.RowRange(t, 1);
    if (params[t].temperature <= 0.0F && adjusts[t].empty() && params[t].top_logprobs <= kMostLogprobs) {
      sampled.push_back(Likely(row, nullptr, params[t].top_logprobs));
      continue;
    }
    Finish();
    const HostCopy copy(row, memory_);
    sampled.push_back(SampleRow({copy.view().Row<const float>(0), static_cast<size_t>(row.cols)}, params[t],
                                adjusts[t], positions[t]));
  }
  return sampled;
}

std::vector<Sampled> CudaOps::Logprobs(const Tensor& logits, std::span<const int32_t> targets, int32_t top) {
  std::vector<Sampled> result;
  for (int64_t t = 0; t < logits.rows; ++t) {
    const Tensor row = logits.RowRange(t, 1);
    if (targets[t] < 0) {
      result.push_back({-1, 0.0F, {}});
    } else if (top <= kMostLogprobs) {
      result.push_back(Likely(row, &targets[t], top));
    } else {
      Finish();
      const HostCopy copy(row, memory_);
      result.push_back(
          LogprobRow({copy.view().Row<const float>(0), static_cast<size_t>(row.cols)}, targets[t], top));
    }
  }
  return result;
}

Sampled CudaOps::Likely(const Tensor& row, const int32_t* target, int32_t top) {
  top = std::clamp<int32_t>(top, 0, static_cast<int32_t>(row.cols));
  const auto vocabulary = static_cast<int32_t>(row.cols);
  const LikelihoodSpace at = SpaceOfLikelihoods(vocabulary, top);
  std::byte* space = Workspace(at.total);
  auto* out = reinterpret_cast<int32_t*>(space + at.out);
  auto* probabilities = reinterpret_cast<float*>(out) + 2;
  Likelihoods work;
  work.rows = 1;
  work.vocabulary = vocabulary;
  work.logits = row.Row<const float>(0);
  work.logits_stride = row.stride;
  if (target != nullptr) {
    ReserveLists(SizeOf(DType::kI32), 1);
    work.targets = Put(std::span(target, 1));
  }
  work.top = top;
  work.workspace = space + at.inside;
  work.greedy = out;
  work.log_sum = reinterpret_cast<double*>(space);
  work.faults = out + 1;
  work.logprobs = probabilities;
  work.top_logprobs = probabilities + 1;
  work.top_ids = out + 3 + top;
  Run(work, out, "the likelihoods of {} tokens", vocabulary);
  Finish();
  const HostCopy copy({out, DType::kI32, 1, at.words, at.words}, memory_);
  const auto* ids = copy.view().Row<const int32_t>(0);
  const auto* values = copy.view().Row<const float>(0);
  if (ids[1] >= 0) {
    Fail(ErrorKind::kInternal, "the logit of token {} is not finite", ids[1]);
  }
  Sampled result{target != nullptr ? *target : ids[0], values[2], {}};
  for (int32_t i = 0; i < top; ++i) result.top.push_back({ids[3 + top + i], values[3 + i]});
  return result;
}

}  // namespace sluice::ops::cuda
