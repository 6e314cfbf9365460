#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include "ops/reference/reference_back_end.h"
#include "ops/reference/values.h"
#include "ops/sampling.h"

namespace sluice::ops::reference {

void ReferenceOps::Route(const RouterShape& shape, const Tensor& logits, const Tensor& bias,
                         const Tensor& ids, const Tensor& weights) {
  const int64_t group_size = shape.experts / shape.groups;
  for (int64_t t = 0; t < logits.rows; ++t) {
    Row p = LoadRow(logits, t);
    for (double& value : p) value = 1.0 / (1.0 + std::exp(-value));
    Row choice = p;
    for (int64_t e = 0; e < shape.experts; ++e) choice[e] += bias.At<float>(0, e);

    std::vector<std::pair<double, int64_t>> groups;  // (-score, group)
    for (int64_t g = 0; g < shape.groups; ++g) {
      Row members(choice.begin() + g * group_size, choice.begin() + (g + 1) * group_size);
      std::sort(members.rbegin(), members.rend());
      groups.emplace_back(-(members[0] + (group_size > 1 ? members[1] : 0.0)), g);
    }
    std::sort(groups.begin(), groups.end());
    std::vector<std::pair<double, int64_t>> experts;  // (-choice, expert)
    for (int64_t i = 0; i < shape.top_groups; ++i) {
      for (int64_t e = groups[i].second * group_size; e < (groups[i].second + 1) * group_size; ++e) {
        experts.emplace_back(-choice[e], e);
      }
    }
    std::sort(experts.begin(), experts.end());
    std::vector<int64_t> chosen;
    for (int64_t i = 0; i < shape.top_k; ++i) chosen.push_back(experts[i].second);
    std::sort(chosen.begin(), chosen.end());
    double sum = 1e-20;
    for (const int64_t e : chosen) sum += p[e];
    for (int64_t i = 0; i < shape.top_k; ++i) {
      ids.At<int32_t>(t, i) = static_cast<int32_t>(chosen[i]);
      weights.At<float>(t, i) =
          static_cast<float>(shape.scale * p[chosen[i]] / (shape.normalize ? sum : 1.0));
    }
  }
}

void ReferenceOps::PlanExperts(const Tensor& ids, int64_t first_expert, const ExpertPlan& plan) {
  for (int64_t t = 0; t < ids.rows; ++t) {
    for (int64_t k = 0; k < ids.cols; ++k) plan.pairs.At<int32_t>(t, k) = -1;
  }
  int32_t pair = 0;
  for (int64_t e = 0; e < plan.groups.rows; ++e) {
    plan.groups.At<int32_t>(e, 0) = pair;
    for (int64_t t = 0; t < ids.rows; ++t) {
      for (int64_t k = 0; k < ids.cols; ++k) {
        if (ids.At<int32_t>(t, k) != first_expert + e) continue;
        plan.rows.At<int32_t>(0, pair) = static_cast<int32_t>(t);
        plan.pairs.At<int32_t>(t, k) = pair++;
      }
    }
    plan.groups.At<int32_t>(e, 1) = pair;
    plan.groups.At<int32_t>(e, 2) = static_cast<int32_t>(e);
  }
  for (; pair < plan.rows.cols; ++pair) plan.rows.At<int32_t>(0, pair) = -1;
}

namespace {

// The value of a node of one row; none: absent.
using NodeValue = std::optional<std::vector<float>>;

float Rounded(double value, DType dtype) {
  return dtype == DType::kBF16 ? ToFloat(ToBF16(static_cast<float>(value))) : static_cast<float>(value);
}

// The node over leaves [first, end) from its largest whole parts: `known` gives what is there without a join.
NodeValue NodeOf(const Subtree& node, DType dtype,
                 const std::function<bool(const Subtree&, NodeValue&)>& known) {
  NodeValue value;
  if (known(node, value) || node.end - node.first <= 1) return value;
  int32_t half = 1;  // the left child is the largest full one that leaves something to the right
  while (2 * half < node.end - node.first) half *= 2;
  NodeValue left = NodeOf({node.first, node.first + half}, dtype, known);
  const NodeValue right = NodeOf({node.first + half, node.end}, dtype, known);
  if (!left || !right) return left ? left : right;
  for (size_t c = 0; c < left->size(); ++c) (*left)[c] = Rounded((*left)[c] + (*right)[c], dtype);
  return left;
}

bool IsBelow(int32_t expert, const Subtree& node, const ExpertLeaves& leaves) {
  return expert >= int64_t{node.first} * leaves.experts / leaves.count &&
         expert < int64_t{node.end} * leaves.experts / leaves.count;
}

void StoreNode(const Tensor& to, int64_t row, const std::vector<float>& value) {
  for (size_t c = 0; c < value.size(); ++c) StoreFloat(to, row, static_cast<int64_t>(c), value[c]);
}

}  // namespace

void ReferenceOps::SumExperts(const Tensor& y, const Tensor& pairs, const ExpertChoices& choices,
                              const ExpertLeaves& leaves, std::span<const Subtree> subtrees,
                              const Tensor& nodes) {
  for (int64_t t = 0; t < pairs.rows; ++t) {
    const auto leaf = [&](const Subtree& at, NodeValue& value) {
      if (at.end - at.first > 1) return false;
      std::vector<double> sum(static_cast<size_t>(nodes.cols), 0.0);
      bool any = false;
      for (int64_t k = 0; k < pairs.cols; ++k) {
        const int32_t pair = pairs.At<int32_t>(t, k);
        if (pair < 0 || !IsBelow(choices.ids.At<int32_t>(t, k), at, leaves)) continue;
        any = true;
        for (int64_t c = 0; c < nodes.cols; ++c) {
          sum[static_cast<size_t>(c)] +=
              choices.weights.At<float>(t, k) * static_cast<double>(LoadFloat(y, pair, c));
        }
      }
      if (!any) return true;
      value.emplace();
      for (const double each : sum) value->push_back(Rounded(each, nodes.dtype));
      return true;
    };
    for (size_t s = 0; s < subtrees.size(); ++s) {
      if (const NodeValue value = NodeOf(subtrees[s], nodes.dtype, leaf)) {
        StoreNode(nodes, t * std::ssize(subtrees) + static_cast<int64_t>(s), *value);
      }
    }
  }
}

void ReferenceOps::JoinSubtrees(const Tensor& nodes, const Tensor& ids, const ExpertLeaves& leaves,
                                std::span<const SubtreeRows> subtrees, const Tensor& out) {
  for (int64_t t = 0; t < out.rows; ++t) {
    const auto known = [&](const Subtree& at, NodeValue& value) {
      for (const SubtreeRows& subtree : subtrees) {
        if (subtree.leaves.first != at.first || subtree.leaves.end != at.end) continue;
        for (int64_t k = 0; k < ids.cols && !value; ++k) {
          if (!IsBelow(ids.At<int32_t>(t, k), at, leaves)) continue;
          value.emplace();
          for (int64_t c = 0; c < nodes.cols; ++c)
            value->push_back(LoadFloat(nodes, subtree.first_row + t * subtree.row_step, c));
        }
        return true;
      }
      return false;
    };
    if (const NodeValue root = NodeOf({0, leaves.count}, nodes.dtype, known)) StoreNode(out, t, *root);
  }
}

void ReferenceOps::SumTerms(const Tensor& y, std::span<const ExpertTerm> terms,
                            std::span<const int64_t> offsets, const Tensor& out) {
  for (int64_t i = 0; i < out.rows; ++i) {
    Row sum(out.cols, 0.0);
    for (int64_t j = offsets[i]; j < offsets[i + 1]; ++j) {
      for (int64_t c = 0; c < out.cols; ++c)
        sum[c] += terms[j].weight * static_cast<double>(LoadFloat(y, terms[j].row, c));
    }
    StoreRow(out, i, sum);
  }
}

void ReferenceOps::JoinNodes(std::span<const NodeJoin> joins, const Tensor& nodes) {
  for (const auto& [left, right, into] : joins) {
    for (int64_t c = 0; c < nodes.cols; ++c) {
      StoreFloat(nodes, into, c, LoadFloat(nodes, left, c) + LoadFloat(nodes, right, c));
    }
  }
}

std::vector<Sampled> ReferenceOps::Sample(const Tensor& logits, std::span<const SamplingParams> params,
                                          std::span<const LogitAdjust> adjusts,
                                          std::span<const int64_t> positions) {
  std::vector<Sampled> sampled;
  for (int64_t t = 0; t < logits.rows; ++t) {
    sampled.push_back(SampleRow({logits.Row<float>(t), static_cast<size_t>(logits.cols)}, params[t],
                                adjusts[t], positions[t]));
  }
  return sampled;
}

std::vector<Sampled> ReferenceOps::Logprobs(const Tensor& logits, std::span<const int32_t> targets,
                                            int32_t top) {
  std::vector<Sampled> result;
  for (int64_t t = 0; t < logits.rows; ++t) {
    result.push_back(LogprobRow({logits.Row<float>(t), static_cast<size_t>(logits.cols)}, targets[t], top));
  }
  return result;
}

}  // namespace sluice::ops::reference
