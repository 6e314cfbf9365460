#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "ops/cpu/cpu_ops.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops {
namespace {

// `rows` rows that choose `top_k` of `experts` each, ascending.
OwnedTensor RandomIds(std::mt19937_64& random, int64_t rows, int64_t top_k, int32_t experts) {
  OwnedTensor ids(DType::kI32, rows, top_k);
  std::vector<int32_t> all(static_cast<size_t>(experts));
  std::iota(all.begin(), all.end(), 0);
  for (int64_t t = 0; t < rows; ++t)
    std::sample(all.begin(), all.end(), ids.view().Row<int32_t>(t), top_k, random);
  return ids;
}

TEST(PlanExperts, ListsEveryPairOfTheExpertsAskedForOnce) {
  ComputePool alone(0);
  std::mt19937_64 random(3);
  for (const auto& ops : {MakeCpuOps(Numerics::kExact, alone), MakeReferenceOps(Numerics::kExact)}) {
    for (const auto& [rows, experts, first, count] : {std::array<int32_t, 4>{0, 8, 0, 8},
                                                      {1, 8, 0, 8},
                                                      {53, 24, 0, 24},
                                                      {53, 24, 7, 5},
                                                      {9, 24, 24, 0}}) {
      const OwnedTensor ids = RandomIds(random, rows, 4, experts);
      const OwnedTensor pair_rows(DType::kI32, 1, rows * 4 + 3);
      const OwnedTensor groups(DType::kI32, count, 3);
      const OwnedTensor pairs(DType::kI32, rows, 4);
      ops->PlanExperts(ids, first, {pair_rows, groups, pairs});
      std::vector<int> seen(static_cast<size_t>(rows) * 4, 0);
      for (int32_t t = 0; t < rows; ++t) {
        for (int64_t k = 0; k < 4; ++k) {
          const int32_t expert = ids.view().At<int32_t>(t, k) - first;
          const int32_t pair = pairs.view().At<int32_t>(t, k);
          if (expert < 0 || expert >= count) {
            EXPECT_EQ(pair, -1);
            continue;
          }
          ASSERT_GE(pair, groups.view().At<int32_t>(expert, 0));
          ASSERT_LT(pair, groups.view().At<int32_t>(expert, 1));
          EXPECT_EQ(pair_rows.view().At<int32_t>(0, pair), t);
          ++seen[static_cast<size_t>(pair)];
        }
      }
      int32_t end = 0;
      for (int32_t e = 0; e < count; ++e) {
        EXPECT_EQ(groups.view().At<int32_t>(e, 0), end);
        end = groups.view().At<int32_t>(e, 1);
        EXPECT_EQ(groups.view().At<int32_t>(e, 2), e);
      }
      for (int32_t pair = 0; pair < end; ++pair) EXPECT_EQ(seen[static_cast<size_t>(pair)], 1);
      for (int64_t pair = end; pair < pair_rows.view().cols; ++pair)
        EXPECT_EQ(pair_rows.view().At<int32_t>(0, pair), -1);
    }
  }
}

}  // namespace
}  // namespace sluice::ops
