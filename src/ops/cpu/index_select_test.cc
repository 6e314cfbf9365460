#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/top_k.h"
#include "ops/reference/reference_ops.h"

namespace sluice::ops {
namespace {

// The k best of a row by a full sort: score descending, then position ascending; result in ascending
// position.
std::vector<int32_t> NaiveTopK(const std::vector<float>& scores, int64_t k) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  order.resize(std::min<size_t>(order.size(), k));
  std::sort(order.begin(), order.end());
  return order;
}

TEST(RunningTopK, EqualsAFullSortWithManyTies) {
  std::mt19937_64 rng(3);
  for (int round = 0; round < 200; ++round) {
    const int64_t k = 1 + static_cast<int64_t>(rng() % 200);
    const auto distinct = 1 + rng() % 9;  // few distinct scores
    std::vector<float> scores(1 + rng() % 3000);
    for (float& score : scores) score = static_cast<float>(rng() % distinct) - 4.0F + 0.0F;
    cpu::RunningTopK first;
    cpu::RunningTopK second;
    first.Reset(k);
    second.Reset(k);
    const auto cut = static_cast<int64_t>(rng() % scores.size()) / 64 * 64;
    for (int64_t at = 0; at < std::ssize(scores); at += 64) {
      const int64_t count = std::min<int64_t>(64, std::ssize(scores) - at);
      EXPECT_EQ((at < cut ? first : second).Offer(scores.data() + at, count, at), -1);
    }
    second.Trim();
    first.Append(second);
    std::vector<int32_t> chosen(k);
    chosen.resize(first.Finish(chosen.data()));
    EXPECT_EQ(chosen, NaiveTopK(scores, k)) << round;
  }
}

TEST(RunningTopK, FindsANaN) {
  std::vector<float> scores(64, 1.0F);
  scores[40] = std::nanf("");
  cpu::RunningTopK top;
  top.Reset(5);
  EXPECT_EQ(top.Offer(scores.data(), 40, 0), -1);
  EXPECT_EQ(top.Offer(scores.data(), 64, 40), 40);
}

class SelectKeysTest : public testing::Test {
 protected:
  static constexpr int64_t kContext = 3000;
  const IndexerShape shape_{5, 32, 16, 96, false};

  // Small whole numbers: sums are exact, ties are everywhere.
  void SetUp() override {
    queries_ = OwnedTensor(DType::kF32, rows_, shape_.heads * shape_.dim);
    gates_ = OwnedTensor(DType::kF32, rows_, shape_.heads);
    for (int64_t i = 0; i < rows_ * shape_.heads * shape_.dim; ++i) {
      queries_.view().At<float>(0, i) = static_cast<float>(rng_() % 3) - 1.0F;
    }
    for (int64_t i = 0; i < rows_ * shape_.heads; ++i) {
      gates_.view().At<float>(0, i) = static_cast<float>(rng_() % 3) - 1.0F;
    }
    const int64_t pages = (kContext + kPageTokens - 1) / kPageTokens;
    cache_ = OwnedTensor(DType::kF32, pages * kPageTokens, shape_.dim);
    for (int64_t i = 0; i < pages * kPageTokens * shape_.dim; ++i) {
      cache_.view().At<float>(0, i) = rng_() % 4 == 0 ? static_cast<float>(rng_() % 3) - 1.0F : 0.0F;
    }
    table_.resize(pages);
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), rng_);
    pages_ = table_;
    for (int64_t t = 0; t < rows_; ++t) places_.push_back({0, static_cast<int32_t>(kContext - rows_ + t)});
  }

  float* Key(int64_t position) {
    return cache_.view().Row<float>(table_[position / kPageTokens] * kPageTokens + position % kPageTokens);
  }
  std::vector<float> Scores(int64_t t) {
    std::vector<float> scores;
    for (int64_t s = 0; s <= places_[t].position; ++s) {
      float score = 0.0F;
      for (int64_t h = 0; h < shape_.heads; ++h) {
        float dot = 0.0F;
        for (int64_t i = 0; i < shape_.dim; ++i) {
          dot = std::fma(queries_.view().At<float>(t, h * shape_.dim + i), Key(s)[i], dot);
        }
        score = std::fma(gates_.view().At<float>(t, h), dot < 0.0F ? 0.0F : dot, score);
      }
      scores.push_back(score + 0.0F);
    }
    return scores;
  }
  OwnedTensor Select(int workers, int64_t first, int64_t count) {
    ComputePool pool(workers);
    OwnedTensor selection(DType::kI32, count, shape_.top_k);
    MakeCpuOps(Numerics::kExact, pool)
        ->SelectKeys(shape_, queries_.view().RowRange(first, count), gates_.view().RowRange(first, count),
                     {reinterpret_cast<std::byte*>(cache_.view().data), CacheFormat::kF32},
                     std::span(places_).subspan(first, count), {&pages_, 1}, selection);
    return selection;
  }
  static std::vector<int32_t> RowOf(const OwnedTensor& selection, int64_t row) {
    const auto* begin = selection.view().Row<int32_t>(row);
    return {begin, begin + selection.view().cols};
  }

  int64_t rows_ = 40;
  std::mt19937_64 rng_{17};
  OwnedTensor queries_, gates_, cache_;
  std::vector<int32_t> table_;
  PageTable pages_;
  std::vector<RowPlace> places_;
};

TEST_F(SelectKeysTest, EqualsAFullSortWithManyTiesInEveryDivisionOfTheWork) {
  const OwnedTensor together = Select(0, 0, rows_);  // row groups only
  const OwnedTensor segments = Select(3, 0, rows_);  // few groups for four threads: the context is cut too
  for (int64_t t = 0; t < rows_; ++t) {
    const std::vector<int32_t> expected = NaiveTopK(Scores(t), shape_.top_k);
    ASSERT_EQ(RowOf(together, t), expected) << t;
    ASSERT_EQ(RowOf(segments, t), expected) << t;
    ASSERT_EQ(RowOf(Select(2, t, 1), 0), expected) << t;
  }
}

// Every score is 0: +0 at even positions, and at odd ones -1e-60 rounded to -0. The lowest positions win.
TEST_F(SelectKeysTest, MinusZeroTiesWithZero) {
  constexpr int64_t kRow = 5;
  std::fill_n(queries_.view().Row<float>(kRow), queries_.view().cols, 0.0F);
  std::fill_n(gates_.view().Row<float>(kRow), shape_.heads, 0.0F);
  const int64_t last = shape_.heads - 1;  // a later head would add +0 to the -0
  queries_.view().At<float>(kRow, last * shape_.dim) = 1.0F;
  gates_.view().At<float>(kRow, last) = -1e-30F;
  for (int64_t i = 0; i < kContext; ++i) Key(i)[0] = i % 2 == 0 ? 0.0F : 1e-30F;
  std::vector<int32_t> lowest(shape_.top_k);
  std::iota(lowest.begin(), lowest.end(), 0);
  EXPECT_EQ(RowOf(Select(0, kRow, 1), 0), lowest);
}

TEST_F(SelectKeysTest, FewVisibleKeysAreAllTakenAndTheRestIsMinusOne) {
  places_[0].position = 9;
  places_[1].position = static_cast<int32_t>(shape_.top_k) - 1;
  const OwnedTensor selection = Select(1, 0, 2);
  for (int64_t j = 0; j < shape_.top_k; ++j) {
    EXPECT_EQ(selection.view().At<int32_t>(0, j), j < 10 ? j : -1);
    EXPECT_EQ(selection.view().At<int32_t>(1, j), j);
  }
}

TEST_F(SelectKeysTest, ANaNScoreNamesItsRowAndPosition) {
  Key(2345)[3] = std::nanf("");
  std::fill_n(queries_.view().Row<float>(0), queries_.view().cols, 1.0F);
  for (const int workers : {0, 3}) {
    try {
      Select(workers, 0, 1);
      FAIL() << "a NaN was ranked";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInternal);
      EXPECT_EQ(std::string(error.what()), "the index score of row 0 for position 2345 is not a number");
    }
  }
}

TEST_F(SelectKeysTest, KeysBehindTheRowAreNotSeen) {
  std::fill_n(Key(places_[0].position + 1), shape_.dim, 100.0F);
  std::fill_n(Key(places_[0].position + 2), shape_.dim, std::nanf(""));
  std::fill_n(queries_.view().Row<float>(0), queries_.view().cols, 1.0F);
  std::fill_n(gates_.view().Row<float>(0), shape_.heads, 1.0F);
  EXPECT_EQ(RowOf(Select(1, 0, 1), 0), NaiveTopK(Scores(0), shape_.top_k));
}

// One row with many heads: the heads are divided over the threads, and the bits stay.
TEST(SparseAttention, HeadsMayBeDividedAmongThreads) {
  const AttentionShape shape{70, 0, 16, 96, 0};
  std::mt19937_64 rng(8);
  std::normal_distribution<float> normal;
  OwnedTensor cache(DType::kF32, 640, shape.latent_width());
  OwnedTensor q(DType::kF32, 1, shape.heads * shape.latent_width());
  for (int64_t i = 0; i < 640 * shape.latent_width(); ++i) cache.view().At<float>(0, i) = normal(rng);
  for (int64_t i = 0; i < q.view().cols; ++i) q.view().At<float>(0, i) = normal(rng);
  std::vector<int32_t> table(10);
  std::iota(table.begin(), table.end(), 0);
  const PageTable pages = table;
  const RowPlace place{0, 639};
  OwnedTensor selection(DType::kI32, 1, 640);
  std::iota(selection.view().Row<int32_t>(0), selection.view().Row<int32_t>(0) + 640, 0);
  const auto run = [&](Ops& ops) {
    OwnedTensor o(DType::kF32, 1, shape.heads * shape.latent);
    ops.SparseAttention(shape, q, {reinterpret_cast<std::byte*>(cache.view().data), CacheFormat::kF32},
                        {&place, 1}, {&pages, 1}, selection, 0.2F, o);
    return o;
  };
  ComputePool alone(0);
  ComputePool many(7);
  const OwnedTensor a = run(*MakeCpuOps(Numerics::kExact, alone));
  const OwnedTensor b = run(*MakeCpuOps(Numerics::kExact, many));
  const OwnedTensor truth = run(*MakeReferenceOps(Numerics::kExact));
  EXPECT_EQ(std::memcmp(a.view().data, b.view().data, a.view().bytes()), 0);
  double error = 0.0;
  double norm = 0.0;
  for (int64_t i = 0; i < a.view().cols; ++i) {
    error += std::pow(a.view().At<float>(0, i) - truth.view().At<float>(0, i), 2);
    norm += std::pow(truth.view().At<float>(0, i), 2);
  }
  EXPECT_LE(std::sqrt(error / norm), 2e-6);
}

}  // namespace
}  // namespace sluice::ops
