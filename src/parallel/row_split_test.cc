#include "parallel/row_split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <utility>

#include "base/error.h"

namespace sluice::parallel {
namespace {

constexpr SplitMode kModes[] = {SplitMode::kInterleave, SplitMode::kZigzag};

int64_t Sum(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

// Row counts as steps have them: many decodes, short and long chunks, sequences without rows, no sequences.
std::vector<int64_t> RandomRows(std::mt19937& random) {
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  std::vector<int64_t> rows(static_cast<size_t>(pick(0, 9)));
  for (int64_t& n : rows) {
    const int64_t highest[] = {0, 1, 3, 40, 300};
    n = pick(0, highest[pick(0, 4)]);
  }
  return rows;
}

// Calls `check(rows, lanes, mode, split)` for several thousand splits.
template <typename Check>
void ForRandomSplits(Check check) {
  std::mt19937 random(20260114);
  for (int round = 0; round < 3000; ++round) {
    const std::vector<int64_t> rows = RandomRows(random);
    const int lanes = round % 16 + 1;
    for (const SplitMode mode : kModes) {
      check(rows, lanes, mode, RowSplit(rows, lanes, mode));
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(RowSplit, IsABijectionWithAscendingLocalRowsAndRightInverses) {
  ForRandomSplits([](const std::vector<int64_t>& rows, int lanes, SplitMode, const RowSplit& split) {
    ASSERT_EQ(split.lanes(), lanes);
    ASSERT_EQ(split.rows(), Sum(rows));
    std::vector<int> seen(static_cast<size_t>(split.rows()), 0);
    std::vector<int32_t> gathered;  // what an all-gather in lane order brings
    for (int lane = 0; lane < lanes; ++lane) {
      const auto owned = split.RowsOf(lane);
      ASSERT_EQ(split.CountOf(lane), static_cast<int64_t>(owned.size()));
      for (size_t local = 0; local < owned.size(); ++local) {
        const int32_t row = owned[local];
        ASSERT_TRUE(row >= 0 && row < split.rows());
        ASSERT_TRUE(local == 0 || owned[local - 1] < row);
        ++seen[row];
        ASSERT_EQ(split.LaneOf(row), lane);
        ASSERT_EQ(split.LocalOf(row), static_cast<int32_t>(local));
      }
      gathered.insert(gathered.end(), owned.begin(), owned.end());
    }
    ASSERT_TRUE(std::ranges::all_of(seen, [](int times) { return times == 1; }));
    for (int32_t row = 0; row < split.rows(); ++row) ASSERT_EQ(gathered[split.GatheredOf(row)], row);
  });
}

TEST(RowSplit, LaneCountsDifferByAtMostOne) {
  ForRandomSplits([](const std::vector<int64_t>&, int lanes, SplitMode, const RowSplit& split) {
    int64_t least = split.rows();
    int64_t most = 0;
    for (int lane = 0; lane < lanes; ++lane) {
      least = std::min(least, split.CountOf(lane));
      most = std::max(most, split.CountOf(lane));
    }
    ASSERT_LE(most - least, 1);
  });
}

TEST(RowSplit, InterleaveDealsRoundRobinAcrossSequences) {
  ForRandomSplits([](const std::vector<int64_t>&, int lanes, SplitMode mode, const RowSplit& split) {
    if (mode != SplitMode::kInterleave) return;
    for (int64_t row = 0; row < split.rows(); ++row) {
      ASSERT_EQ(split.LaneOf(row), row % lanes);
      ASSERT_EQ(split.LocalOf(row), row / lanes);
    }
  });
}

// A lane sees, for its rows of a sequence, the keys [0, position]. Put together in the step's order these
// ranges must be those of the step before the split; `first` is where the sequence's cached part ends.
TEST(RowSplit, CausalRangesOfTheLanesAreThoseOfTheStep) {
  using Range = std::pair<int64_t, int64_t>;  // sequence, last visible position
  std::mt19937 random(7);
  ForRandomSplits([&](const std::vector<int64_t>& rows, int lanes, SplitMode, const RowSplit& split) {
    std::vector<Range> unsplit;
    std::vector<int64_t> first;
    for (size_t s = 0; s < rows.size(); ++s) {
      first.push_back(static_cast<int64_t>(random() % 1000));
      for (int64_t i = 0; i < rows[s]; ++i) unsplit.emplace_back(s, first[s] + i);
    }
    std::vector<Range> joined;
    for (int lane = 0; lane < lanes; ++lane) {
      std::vector<Range> of_lane;
      for (const int32_t row : split.RowsOf(lane)) of_lane.push_back(unsplit[row]);
      // Within a lane no row of a sequence stands before a key it may see.
      ASSERT_TRUE(std::ranges::is_sorted(of_lane));
      joined.insert(joined.end(), of_lane.begin(), of_lane.end());
    }
    std::ranges::sort(joined);
    ASSERT_EQ(joined, unsplit);
  });
}

// The reference system's in-seq-split of one sequence, as its documents put it: cut the list in 2 C pieces of
// len // 2C, the first len % 2C of them one longer; rank r keeps piece r followed by piece 2C - 1 - r.
std::vector<std::vector<int32_t>> ReferenceInSeqSplit(int32_t n, int32_t ranks) {
  std::vector<int32_t> indices(static_cast<size_t>(n));
  std::iota(indices.begin(), indices.end(), 0);
  std::vector<std::vector<int32_t>> pieces;
  auto from = indices.begin();
  for (int32_t piece = 0; piece < 2 * ranks; ++piece) {
    const auto to = from + n / (2 * ranks) + (piece < n % (2 * ranks) ? 1 : 0);
    pieces.emplace_back(from, to);
    from = to;
  }
  std::vector<std::vector<int32_t>> kept;
  for (int32_t rank = 0; rank < ranks; ++rank) {
    kept.push_back(pieces[rank]);
    const auto& next = pieces[2 * ranks - 1 - rank];
    kept.back().insert(kept.back().end(), next.begin(), next.end());
  }
  return kept;
}

TEST(RowSplit, ZigzagOfOneSequenceIsTheReferencesInSeqSplit) {
  for (int lanes = 1; lanes <= 16; ++lanes) {
    for (int32_t n = 0; n <= 300; ++n) {
      const int64_t rows[] = {n};
      const RowSplit split(rows, lanes, SplitMode::kZigzag);
      const auto expected = ReferenceInSeqSplit(n, lanes);
      for (int lane = 0; lane < lanes; ++lane) {
        const auto owned = split.RowsOf(lane);
        ASSERT_EQ(std::vector<int32_t>(owned.begin(), owned.end()), expected[lane]) << n << " over " << lanes;
      }
    }
  }
}

// With whole blocks every lane sees the same number of keys; left-over rows and the blocks they push back
// cost a lane at most 2 n of the n^2 / 2 C that each has.
TEST(RowSplit, ZigzagBalancesCausalWork) {
  for (int lanes = 1; lanes <= 16; ++lanes) {
    for (int64_t n = 0; n <= 500; ++n) {
      const int64_t rows[] = {n};
      const RowSplit split(rows, lanes, SplitMode::kZigzag);
      int64_t least = n * (n + 1) / 2;
      int64_t most = 0;
      for (int lane = 0; lane < lanes; ++lane) {
        int64_t keys = 0;
        for (const int32_t row : split.RowsOf(lane)) keys += row + 1;
        least = std::min(least, keys);
        most = std::max(most, keys);
      }
      ASSERT_LE(most - least, n % (int64_t{2} * lanes) == 0 ? 0 : 2 * n) << n << " over " << lanes;
    }
  }
}

TEST(RowSplit, ZigzagDealsDecodesEvenly) {
  // 8 sequences of one row: the first 2 C = 8 blocks in turn, each lane its pair.
  const std::vector<int64_t> decodes(8, 1);
  const RowSplit split(decodes, 4, SplitMode::kZigzag);
  std::vector<int> lanes;
  for (int64_t row = 0; row < 8; ++row) lanes.push_back(split.LaneOf(row));
  EXPECT_EQ(lanes, (std::vector<int>{0, 1, 2, 3, 3, 2, 1, 0}));
}

TEST(RowSplit, FewerRowsThanLanesAndNoRows) {
  for (const SplitMode mode : kModes) {
    for (int lanes = 1; lanes <= 16; ++lanes) {
      const RowSplit none(std::vector<int64_t>{}, lanes, mode);
      EXPECT_EQ(none.rows(), 0);
      for (int lane = 0; lane < lanes; ++lane) EXPECT_EQ(none.CountOf(lane), 0);
      for (int64_t n = 0; n < lanes; ++n) {
        const int64_t rows[] = {n};
        const RowSplit few(rows, lanes, mode);
        for (int lane = 0; lane < lanes; ++lane) EXPECT_EQ(few.CountOf(lane), lane < n ? 1 : 0);
      }
    }
  }
}

TEST(RowSplit, ChecksItsArguments) {
  const int64_t negative[] = {3, -1};
  const int64_t too_many[] = {int64_t{1} << 30, int64_t{1} << 30};
  EXPECT_THROW(RowSplit(negative, 2, SplitMode::kZigzag), Error);
  EXPECT_THROW(RowSplit(too_many, 2, SplitMode::kInterleave), Error);
  EXPECT_THROW(RowSplit({}, 0, SplitMode::kInterleave), Error);
}

TEST(MostRows, NoLaneHasMoreAndOneHasThem) {
  for (const SplitMode mode : {SplitMode::kInterleave, SplitMode::kZigzag}) {
    for (int lanes = 1; lanes <= 5; ++lanes) {
      std::mt19937 random(7);
      for (int round = 0; round < 200; ++round) {
        std::vector<int64_t> sequences(1 + random() % 9);
        for (int64_t& rows : sequences) rows = random() % 40;
        const RowSplit split(sequences, lanes, mode);
        for (int lane = 0; lane < lanes; ++lane) {
          EXPECT_LE(split.CountOf(lane), MostRows(split.rows(), lanes, mode));
        }
      }
      const int64_t one = 2 * lanes * 7;  // whole blocks: every lane has its share
      EXPECT_EQ(MostRows(one, lanes, mode), 14);
    }
  }
}

}  // namespace
}  // namespace sluice::parallel
