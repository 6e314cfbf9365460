#include "golden_compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace sluice::golden {
namespace {

constexpr int64_t kRows = 6;

// One layer of six rows with top_k 2, every row's scores being 0.00, 0.01, 0.02, ... in deviations: the last
// two visible keys are chosen. Row 5's margin is made unclear.
Vectors Ladder() {
  Vectors v;
  v.name = "ladder";
  v.tokens.resize(kRows);
  v.layers = 1;
  v.top_k = 2;
  v.selected.assign(kRows, 0);
  v.deviation.assign(kRows, 1.0F);
  v.margin.assign(kRows, 0.01F);
  v.near_offsets = {0};
  for (int32_t row = 0; row < kRows; ++row) {
    for (int32_t p = std::max(0, row - 1); p <= row; ++p) v.selected[row] |= static_cast<uint8_t>(1U << p);
    if (row < v.top_k) v.margin[row] = kNoChoice;
    for (int32_t p = std::max(0, row - 4); row >= v.top_k && p <= row; ++p) {
      v.near_positions.push_back(p);
      v.near_distances.push_back(0.01F * static_cast<float>(p - (row - 1)));
    }
    v.near_offsets.push_back(static_cast<int32_t>(v.near_positions.size()));
  }
  v.margin[5] = 5e-6F;
  return v;
}

TEST(CompareRow, EqualSetsHaveNoRegret) {
  const Vectors v = Ladder();
  const RowRegret regret = CompareRow(v, 0, 4, std::vector<int32_t>{3, 4});
  EXPECT_EQ(regret.swapped, 0);
  EXPECT_EQ(regret.strict, 0.0);
  EXPECT_EQ(regret.mean, 0.0);
}

TEST(CompareRow, SwappedKeysCountByTheirDistance) {
  const Vectors v = Ladder();
  const RowRegret one = CompareRow(v, 0, 4, std::vector<int32_t>{2, 4});
  EXPECT_EQ(one.swapped, 1);
  EXPECT_NEAR(one.strict, 0.01, 1e-8);
  EXPECT_NEAR(one.mean, 0.01 / 2, 1e-8);
  const RowRegret best = CompareRow(v, 0, 4, std::vector<int32_t>{2, 3});  // loses the best key, not the k-th
  EXPECT_NEAR(best.strict, 0.01, 1e-8);
  EXPECT_NEAR(best.mean, 0.02 / 2, 1e-8);
  const RowRegret two = CompareRow(v, 0, 4, std::vector<int32_t>{1, 2});
  EXPECT_EQ(two.swapped, 2);
  EXPECT_NEAR(two.strict, 0.02, 1e-8);
  EXPECT_NEAR(two.mean, 0.04 / 2, 1e-8);
}

TEST(CompareRow, AKeyOutsideTheWindowIsInfinitelyWrong) {
  const Vectors v = Ladder();
  const RowRegret regret = CompareRow(v, 0, 5, std::vector<int32_t>{0, 5});
  EXPECT_EQ(regret.swapped, 1);
  EXPECT_TRUE(std::isinf(regret.strict));
  EXPECT_TRUE(std::isinf(regret.mean));
}

TEST(CompareRow, MalformedSetsAreInfinitelyWrong) {
  const Vectors v = Ladder();
  for (const std::vector<int32_t>& wrong :
       std::vector<std::vector<int32_t>>{{4, 3}, {4, 4}, {4, -1}, {3, 5}, {-1, 4}, {4}, {2, 3, 4}}) {
    EXPECT_TRUE(std::isinf(CompareRow(v, 0, 4, wrong).strict));
  }
  EXPECT_EQ(CompareRow(v, 0, 0, std::vector<int32_t>{0, -1}).swapped, 0);
  EXPECT_TRUE(std::isinf(CompareRow(v, 0, 0, std::vector<int32_t>{0, 0}).strict));
}

TEST(LayerSelection, CountsRowsByClass) {
  const Vectors v = Ladder();
  LayerSelection layer(v, 0);
  layer.Add(0, std::vector<int32_t>{0, -1});
  layer.Add(1, std::vector<int32_t>{0, 1});
  layer.Add(2, std::vector<int32_t>{1, 2});
  layer.Add(3, std::vector<int32_t>{1, 3});  // clear, changed
  layer.Add(4, std::vector<int32_t>{3, 4});
  layer.Add(5, std::vector<int32_t>{3, 5});  // unclear, changed
  EXPECT_EQ(layer.rows(), 6);
  EXPECT_EQ(layer.with_choice(), 4);
  EXPECT_EQ(layer.clear(), 3);
  EXPECT_EQ(layer.clear_changed(), 1);
  EXPECT_EQ(layer.unclear_changed(), 1);
  EXPECT_EQ(layer.forced_changed(), 0);
  EXPECT_NEAR(layer.unclear_regret(), 0.01, 1e-8);
  EXPECT_NEAR(layer.largest_mean(), 0.005, 1e-8);
  layer.Add(1, std::vector<int32_t>{1, -1});
  EXPECT_EQ(layer.forced_changed(), 1);
}

TEST(CompareLogits, RelativeRmsAndPercentile) {
  std::vector<float> reference(1000, 2.0F);
  std::vector<float> other = reference;
  other[0] += 0.2F;
  const LogitsDistance one = CompareLogits(other, reference);
  EXPECT_NEAR(one.relative_rms, 0.1 / std::sqrt(1000.0), 1e-7);
  EXPECT_EQ(one.p99, 0.0);
  for (size_t i = 0; i < 20; ++i) other[i] = 2.02F;
  EXPECT_NEAR(CompareLogits(other, reference).p99, 0.01, 1e-6);
  other[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isinf(CompareLogits(other, reference).relative_rms));
  EXPECT_TRUE(std::isinf(CompareLogits(other, reference).p99));
}

TEST(Percentile99, InterpolatesLinearly) {
  std::vector<double> values(101);
  std::iota(values.begin(), values.end(), 0.0);
  EXPECT_DOUBLE_EQ(Percentile99(values), 99.0);
  EXPECT_DOUBLE_EQ(Percentile99({1.0, 2.0}), 1.99);
  EXPECT_DOUBLE_EQ(Percentile99({}), 0.0);
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(Percentile99({1.0, infinity, infinity}), infinity);
}

TEST(Vectors, CommittedFilesReadAndCoverWhatTheyShould) {
  int64_t exact = 0;
  int64_t fp8 = 0;
  for (const auto& entry : std::filesystem::directory_iterator(GOLDEN_DIR)) {
    if (entry.path().extension() != ".safetensors") continue;
    const Vectors v = ReadVectors(entry.path());
    (v.name.starts_with("exact_") ? exact : fp8) += 1;
    EXPECT_GE(v.logit_rows.size(), 64U) << v.name;
    EXPECT_GE(v.rows(), 12 * v.top_k) << v.name;
    int64_t choices = 0;
    int64_t clear = 0;
    int64_t indexers = 0;  // layers that choose by themselves
    for (int64_t layer = 0; layer < v.layers; ++layer) {
      indexers += HasChoice(v, layer, v.rows() - 1);
      for (int64_t row = 0; row < v.rows(); ++row) {
        choices += HasChoice(v, layer, row);
        clear += IsClear(v, layer, row);
        ASSERT_EQ(std::ssize(v.Selection(layer, row)), std::min(v.top_k, row + 1)) << v.name;
      }
    }
    EXPECT_EQ(indexers, v.name == "exact_glm52" ? 3 : v.layers) << v.name;
    EXPECT_EQ(choices, indexers * (v.rows() - v.top_k)) << v.name;
    if (v.name.starts_with("exact_")) {
      EXPECT_GE(static_cast<double>(clear), kClearShare * static_cast<double>(choices)) << v.name;
      EXPECT_EQ(v.greedy_gap.size(), 64U);
    }
  }
  EXPECT_GE(exact, 6);
  EXPECT_GE(fp8, 5);
}

}  // namespace
}  // namespace sluice::golden
