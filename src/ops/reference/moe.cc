#include <algorithm>
#include <cmath>
#include <numeric>

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
