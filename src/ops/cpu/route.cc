#include <algorithm>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "ops/cpu/gate.h"
#include "ops/cpu/rows.h"

namespace sluice::ops::cpu {
namespace {

// Moves the `count` indices with the largest values to the front; ties go to the lower index. A NaN value
// ranks last of all.
void TakeLargest(std::span<int32_t> indices, const float* values, int64_t count) {
  std::partial_sort(indices.begin(), indices.begin() + count, indices.end(), [values](int32_t a, int32_t b) {
    const bool a_nan = values[a] != values[a];
    const bool b_nan = values[b] != values[b];
    if (a_nan || b_nan) return a_nan == b_nan ? a < b : b_nan;
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  });
}

float SumOfTwoLargest(std::span<const float> values) {
  float first = values[0];
  float second = values.size() > 1 ? values[1] : 0.0F;
  if (values.size() > 1 && second > first) std::swap(first, second);
  for (size_t i = 2; i < values.size(); ++i) {
    if (values[i] > first) {
      second = std::exchange(first, values[i]);
    } else if (values[i] > second) {
      second = values[i];
    }
  }
  return first + second;
}

}  // namespace

void RouteRows(const RouterShape& shape, const Tensor& logits, const Tensor& bias, const Tensor& ids,
               const Tensor& weights, int64_t begin, int64_t end) {
  const int64_t group_size = shape.experts / shape.groups;
  SLUICE_CHECK(group_size * shape.groups == shape.experts && shape.top_k <= shape.top_groups * group_size);
  std::vector<float> p(shape.experts);
  std::vector<float> choice(shape.experts);
  std::vector<float> group_scores(shape.groups);
  std::vector<int32_t> groups(shape.groups);
  std::vector<int32_t> experts;
  for (int64_t t = begin; t < end; ++t) {
    GateRow({logits.Row<const float>(t), static_cast<size_t>(shape.experts)}, bias.Row<const float>(0),
            p.data(), choice.data());
    for (int64_t g = 0; g < shape.groups; ++g) {
      group_scores[g] = SumOfTwoLargest(std::span(choice).subspan(g * group_size, group_size));
    }
    std::iota(groups.begin(), groups.end(), 0);
    TakeLargest(groups, group_scores.data(), shape.top_groups);
    experts.clear();
    for (int64_t g = 0; g < shape.top_groups; ++g) {
      for (int64_t e = 0; e < group_size; ++e)
        experts.push_back(static_cast<int32_t>(groups[g] * group_size + e));
    }
    TakeLargest(experts, choice.data(), shape.top_k);
    std::sort(experts.begin(), experts.begin() + shape.top_k);

    float sum = 0.0F;
    for (int64_t i = 0; i < shape.top_k; ++i) sum += p[experts[i]];
    sum += 1e-20F;
    for (int64_t i = 0; i < shape.top_k; ++i) {
      ids.At<int32_t>(t, i) = experts[i];
      const float scaled = shape.scale * p[experts[i]];
      weights.At<float>(t, i) = shape.normalize ? scaled / sum : scaled;
    }
  }
}

}  // namespace sluice::ops::cpu
