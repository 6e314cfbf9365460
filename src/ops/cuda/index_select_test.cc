#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "ops/cuda/index_scores.h"
#include "ops/cuda/on_device.h"
#include "ops/cuda/top_k.h"

namespace sluice::ops::cuda {
namespace {

constexpr int64_t kPageBytes = kPageTokens * (kIndexDim + 4);
constexpr int64_t kContext = 9000;
constexpr int64_t kPages = (kContext + kPageTokens - 1) / kPageTokens;
constexpr int32_t kSequences = 2;
constexpr float kPoison = -12345.0F;

// A prompt's rows, one row alone between two sequences, and decodes; some see little, some everything.
std::vector<RowPlace> SomePlaces() {
  std::vector<RowPlace> places;
  for (int32_t i = 0; i < 21; ++i) places.push_back({0, 4000 + 3 * i});
  places.push_back({1, 63});
  places.push_back({0, 2047});
  places.push_back({0, 2048});
  for (int32_t i = 0; i < 7; ++i) places.push_back({1, static_cast<int32_t>(kContext) - 7 + i});
  places.push_back({1, 0});
  places.push_back({0, static_cast<int32_t>(kContext) - 1});
  return places;
}

// Queries, gates and an index cache of two sequences; `pages` decides where their pages lie.
struct World {
  World(int64_t head_count, uint32_t pages, std::vector<RowPlace> rows_of = SomePlaces())
      : heads(head_count), places(std::move(rows_of)) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    const auto code = [&] { return ToF8E4M3(60.0F * normal(random)).bits; };
    for (int64_t i = 0; i < rows() * heads * kIndexDim; ++i) queries.push_back(code());
    for (int64_t i = 0; i < rows() * heads; ++i) gates.push_back(0.01F * normal(random));
    for (int32_t sequence = 0; sequence < kSequences; ++sequence) {
      auto& keys = keys_of[sequence];
      for (int64_t i = 0; i < kContext * kIndexDim; ++i) keys.push_back(code());
      for (int64_t i = 0; i < kContext; ++i) {
        scales_of[sequence].push_back(std::ldexp(1.0F, -8 + static_cast<int>(random() % 3)));
      }
    }
    std::vector<int32_t> order(kSequences * kPages);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 shuffle(pages);
    std::shuffle(order.begin(), order.end(), shuffle);
    table = order;
    cache.resize(order.size() * kPageBytes, 0x7f);
    for (int32_t sequence = 0; sequence < kSequences; ++sequence) {
      for (int64_t position = 0; position < kContext; ++position) {
        uint8_t* page = cache.data() + table[sequence * kPages + position / kPageTokens] * kPageBytes;
        const int64_t slot = position % kPageTokens;
        std::memcpy(page + slot * kIndexDim, &keys_of[sequence][position * kIndexDim], kIndexDim);
        std::memcpy(page + kPageTokens * kIndexDim + 4 * slot, &scales_of[sequence][position], 4);
      }
    }
  }
  int64_t rows() const { return std::ssize(places); }
  double Score(int64_t row, int64_t position) const {
    const int32_t sequence = places[row].sequence;
    double sum = 0;
    for (int64_t h = 0; h < heads; ++h) {
      double dot = 0;
      for (int64_t i = 0; i < kIndexDim; ++i) {
        dot += static_cast<double>(ToFloat(F8E4M3{queries[(row * heads + h) * kIndexDim + i]})) *
               ToFloat(F8E4M3{keys_of[sequence][position * kIndexDim + i]});
      }
      sum += gates[row * heads + h] * std::max(0.0, dot);
    }
    return sum * scales_of[sequence][position];
  }

  int64_t heads;
  std::vector<RowPlace> places;
  std::vector<uint8_t> queries, cache;
  std::vector<float> gates;
  std::vector<uint8_t> keys_of[kSequences];
  std::vector<float> scales_of[kSequences];
  std::vector<int32_t> table;
};

struct Found {
  std::vector<std::vector<float>> scores;  // by row; beyond what it sees there must be poison, and is cut off
  std::vector<int32_t> selection;
  int32_t bad[2] = {-1, -1};
};

Found Select(const World& world, int64_t first, int64_t count, int32_t top_k, int sms) {
  const std::span<const RowPlace> places = std::span(world.places).subspan(first, count);
  std::vector<int32_t> positions;
  for (const RowPlace& place : places) positions.push_back(place.position);
  const std::vector<QueryGroup> groups = GroupQueries(places, world.heads);
  const OnDevice<uint8_t> queries(world.queries), cache(world.cache);
  const OnDevice<float> gates(world.gates), scores(std::vector<float>(count * kContext, kPoison));
  const OnDevice<int32_t> table(world.table), on_positions(positions), counter({0}), bad({-1, -1});
  const OnDevice<QueryGroup> on_groups(groups);
  const OnDevice<int32_t> selection(std::vector<int32_t>(count * top_k, -7));
  IndexScores work;
  work.heads = world.heads;
  work.rows = count;
  work.queries = queries.data() + first * world.heads * kIndexDim;
  work.gates = gates.data() + first * world.heads;
  work.cache = cache.data();
  work.cache_pages = std::ssize(world.table);
  work.page_tables = table.data();
  work.table_stride = kPages;
  work.positions = on_positions.data();
  work.groups = on_groups.data();
  work.group_count = static_cast<int32_t>(groups.size());
  work.scores = scores.data();
  work.scores_stride = kContext;
  Must(Enqueue(work, counter.data(), sms, nullptr));
  Must(Enqueue(TopK{count, scores.data(), kContext, on_positions.data(), top_k, selection.data(), bad.data()},
               nullptr));
  Found found;
  EXPECT_EQ(counter.Get(), std::vector<int32_t>{0}) << "which the next launch draws from";
  const std::vector<float> all = scores.Get();
  for (int64_t t = 0; t < count; ++t) {
    const auto row = all.begin() + t * kContext;
    found.scores.emplace_back(row, row + positions[t] + 1);
    for (int64_t s = positions[t] + 1; s < kContext; ++s)
      EXPECT_EQ(row[s], kPoison) << "row " << t << ", " << s;
  }
  found.selection = selection.Get();
  std::copy_n(bad.Get().begin(), 2, found.bad);
  return found;
}

// The positions of the largest scores, ties to the lowest, ascending; -1 after the last.
std::vector<int32_t> Largest(const std::vector<float>& scores, int32_t top_k) {
  std::vector<int32_t> right(scores.size());
  std::iota(right.begin(), right.end(), 0);
  std::stable_sort(right.begin(), right.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  right.resize(std::min<size_t>(right.size(), static_cast<size_t>(top_k)));
  std::sort(right.begin(), right.end());
  right.resize(static_cast<size_t>(top_k), -1);
  return right;
}

class IndexSelect : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if (!HasGpu()) GTEST_SKIP() << "there is no GPU";
  }
};

// The tensor core sums the products of one FP8 wgmma with some 13 bits behind the leading one; the bound is
// one unit of the place before. (Seen on an H100: 1.4e-4 with 64 heads, 1.3e-4 with 32.)
TEST_P(IndexSelect, ScoresAreCloseToDouble) {
  const World world(GetParam(), 1);
  const Found found = Select(world, 0, world.rows(), 2048, Sms());
  double error = 0, square = 0;
  for (int64_t t = 0; t < world.rows(); ++t) {
    for (int64_t s = 0; s < std::ssize(found.scores[t]); s += t % 8 == 0 ? 5 : 61) {
      const double right = world.Score(t, s);
      error += (found.scores[t][s] - right) * (found.scores[t][s] - right);
      square += right * right;
    }
  }
  EXPECT_LE(std::sqrt(error / square), 0x1p-12);
}

TEST_P(IndexSelect, TakesTheLargestScoresTiesToTheLowestPosition) {
  const World world(GetParam(), 1);
  for (const int32_t top_k : {2048, 64, 1}) {
    const Found found = Select(world, 0, world.rows(), top_k, Sms());
    for (int64_t t = 0; t < world.rows(); ++t) {
      const std::vector<int32_t> right = Largest(found.scores[t], top_k);
      const auto mine = found.selection.begin() + t * top_k;
      ASSERT_TRUE(std::equal(right.begin(), right.end(), mine)) << "row " << t << ", top " << top_k;
    }
  }
}

TEST_P(IndexSelect, ARowKeepsItsBitsInAnyCompanyPagesAndOnAnySms) {
  const World world(GetParam(), 1);
  const World elsewhere(GetParam(), 2);
  const Found all = Select(world, 0, world.rows(), 2048, Sms());
  const auto expect_equal = [&](const Found& some, int64_t first, const char* what) {
    for (int64_t i = 0; i < std::ssize(some.scores); ++i) {
      const std::vector<float>& right = all.scores[first + i];
      ASSERT_EQ(std::memcmp(some.scores[i].data(), right.data(), right.size() * sizeof(float)), 0)
          << "row " << first + i << " " << what;
    }
    ASSERT_TRUE(
        std::equal(some.selection.begin(), some.selection.end(), all.selection.begin() + first * 2048))
        << what;
  };
  expect_equal(Select(elsewhere, 0, world.rows(), 2048, Sms()), 0, "in other pages");
  expect_equal(Select(world, 0, world.rows(), 2048, 5), 0, "on 5 SMs");
  expect_equal(Select(world, 0, world.rows(), 2048, Sms() - 1), 0, "on one SM less");
  for (int64_t t = 0; t < world.rows(); ++t) expect_equal(Select(world, t, 1, 2048, Sms()), t, "alone");
  expect_equal(Select(world, 1, 20, 2048, Sms()), 1, "with another partner");
  // Few rows of one sequence have a kernel of their own; on few SMs a block has more pages than places.
  for (const int64_t count : {1, 2, 3, 4}) {
    for (const int sms : {Sms(), 3}) {
      expect_equal(Select(world, 24, count, 2048, sms), 24, "with few of its sequence");
      expect_equal(Select(elsewhere, 0, count, 2048, sms), 0, "with few of its sequence in other pages");
    }
  }
}

// Rows of every size at which the selection changes its way, and of every kind that a guess from a sample can
// go wrong on: a few large scores in one place, rising and falling ones, ties at and around the threshold,
// nothing but one value, scores of the widest range.
TEST(TopK, IsExactForRowsOfAnyKind) {
  if (!HasGpu()) GTEST_SKIP() << "there is no GPU";
  constexpr float kHuge = std::numeric_limits<float>::max() / 2;
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  const auto score = [&](int kind, int32_t s, int32_t visible) -> float {
    switch (kind) {
      case 0:
        return normal(random);
      case 1:
        return static_cast<float>(s);
      case 2:
        return -static_cast<float>(s);
      case 3:
        return s >= visible / 2 && s < visible / 2 + 3000 ? 10.0F + normal(random) : normal(random);
      case 4:
        return s % 2 == 0 ? 0.0F : 1.0F;
      case 5:
        return 1.0F;
      case 6:
        return s < 100 ? -1.0F : -2.0F;
      case 7:
        return static_cast<float>(s % 3) - kHuge;
      case 8:
        return std::ldexp(normal(random), static_cast<int>(random() % 250) - 125);
      case 9:
        return std::round(4.0F * normal(random)) + 0.0F;  // ties at the threshold, and no -0
      case 10:
        return s % 8 == 0 ? 5.0F + normal(random) : normal(random);
      case 11:
        // Where a sample of every 16th piece of 8 is taken: more of the sample is large than of the row.
        return s / 8 % 16 == 0 ? 10.0F + normal(random) : normal(random);
      default:
        return s < 2047 ? 3.0F : (s == visible - 1 ? 3.0F : -std::numeric_limits<float>::infinity());
    }
  };
  constexpr int kKinds = 13;
  for (const int32_t visible : {2049, 6144, 6145, 20001, 65536, 163840}) {
    std::vector<float> scores;
    for (int kind = 0; kind < kKinds; ++kind) {
      for (int32_t s = 0; s < visible; ++s) scores.push_back(score(kind, s, visible));
    }
    const OnDevice<float> on_device(scores);
    const OnDevice<int32_t> positions(std::vector<int32_t>(kKinds, visible - 1)), bad({-1, -1});
    for (const int32_t top_k : {2048, 1000, 1}) {
      const OnDevice<int32_t> selection(std::vector<int32_t>(kKinds * top_k, -7));
      Must(Enqueue(
          TopK{kKinds, on_device.data(), visible, positions.data(), top_k, selection.data(), bad.data()},
          nullptr));
      const std::vector<int32_t> found = selection.Get();
      for (int kind = 0; kind < kKinds; ++kind) {
        const auto row = scores.begin() + static_cast<int64_t>(kind) * visible;
        EXPECT_TRUE(std::ranges::equal(Largest({row, row + visible}, top_k),
                                       std::span(found).subspan(kind * top_k, top_k)))
            << "kind " << kind << ", " << visible << " scores, top " << top_k;
      }
    }
    EXPECT_EQ(bad.Get(), (std::vector<int32_t>{-1, -1}));
  }
}

// More groups than a warp looks at together, none of which has a partner.
TEST_P(IndexSelect, RowsOfManyGroupsKeepTheirBits) {
  std::vector<RowPlace> places;
  for (int32_t i = 0; i < 150; ++i) {
    places.push_back({i % 2, (i * 997 + 2048) % static_cast<int32_t>(kContext)});
  }
  const World world(GetParam(), 1, places);
  for (const int sms : {Sms(), 3}) {
    const Found all = Select(world, 0, world.rows(), 2048, sms);
    for (int64_t t = 0; t < world.rows(); t += 7) {
      const std::vector<float> alone = Select(world, t, 1, 2048, Sms()).scores[0];
      ASSERT_EQ(std::memcmp(alone.data(), all.scores[t].data(), alone.size() * sizeof(float)), 0)
          << "row " << t << " on " << sms << " SMs";
    }
  }
}

TEST_P(IndexSelect, NamesARowWhoseScoreIsNotANumber) {
  World world(GetParam(), 1);
  world.gates[3 * world.heads + 1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Select(world, 0, world.rows(), 2048, Sms()).bad[0], 3);
  World damaged(GetParam(), 1);
  damaged.cache[damaged.table[kPages + 50] * kPageBytes + 5] = 0x7f;  // a key of sequence 1
  const Found found = Select(damaged, 24, 1, 2048, Sms());
  EXPECT_EQ(found.bad[0], 0);
  EXPECT_EQ(found.bad[1], 50 * kPageTokens);
}

INSTANTIATE_TEST_SUITE_P(Heads, IndexSelect, testing::Values(64, 32));

}  // namespace
}  // namespace sluice::ops::cuda
