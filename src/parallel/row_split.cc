#include "parallel/row_split.h"

#include <algorithm>
#include <limits>

#include "base/checked.h"
#include "base/error.h"

namespace sluice::parallel {
namespace {

// Appends the lanes of the `n` rows of one sequence. Left-over rows go to the blocks from `*first_extra` on,
// which then points behind the last of them.
void DealZigzag(int64_t n, int64_t lanes, int64_t* first_extra, std::vector<int32_t>* lane_of_row) {
  const int64_t blocks = 2 * lanes;
  const int64_t extra = n % blocks;
  for (int64_t block = 0; block < blocks; ++block) {
    const bool has_extra = (block - *first_extra + blocks) % blocks < extra;
    const int64_t length = n / blocks + (has_extra ? 1 : 0);
    const int64_t lane = block < lanes ? block : blocks - 1 - block;
    lane_of_row->insert(lane_of_row->end(), static_cast<size_t>(length), static_cast<int32_t>(lane));
  }
  *first_extra = (*first_extra + extra) % blocks;
}

}  // namespace

RowSplit::RowSplit(std::span<const int64_t> rows_of_sequence, int lanes, SplitMode mode) {
  SLUICE_CHECK(lanes >= 1, "lanes is {}", lanes);
  int64_t rows = 0;
  for (const int64_t n : rows_of_sequence) {
    SLUICE_CHECK(n >= 0, "a sequence has {} rows", n);
    const auto sum = CheckedAdd(rows, n);
    SLUICE_CHECK(sum && *sum <= std::numeric_limits<int32_t>::max(), "row numbers are 32 bits wide");
    rows = *sum;
  }

  lane_of_row_.reserve(static_cast<size_t>(rows));
  if (mode == SplitMode::kInterleave) {
    for (int64_t row = 0; row < rows; ++row) lane_of_row_.push_back(static_cast<int32_t>(row % lanes));
  } else {
    int64_t first_extra = 0;
    for (const int64_t n : rows_of_sequence) DealZigzag(n, lanes, &first_extra, &lane_of_row_);
  }

  rows_of_lane_.resize(static_cast<size_t>(lanes));
  local_of_row_.reserve(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<int32_t>& owned = rows_of_lane_[lane_of_row_[row]];
    local_of_row_.push_back(static_cast<int32_t>(owned.size()));
    owned.push_back(static_cast<int32_t>(row));
  }

  int64_t first = 0;
  for (const std::vector<int32_t>& owned : rows_of_lane_) {
    first_of_lane_.push_back(first);
    first += static_cast<int64_t>(owned.size());
  }
}

int64_t MostRows(int64_t rows, int lanes, SplitMode mode) {
  // Zigzag deals a step evenly over its blocks, since left-over rows go round, and a lane has two of them.
  return mode == SplitMode::kInterleave ? CeilDiv(rows, lanes) : std::min(rows, 2 * CeilDiv(rows, 2 * lanes));
}

}  // namespace sluice::parallel
