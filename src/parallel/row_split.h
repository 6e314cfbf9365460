#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice::parallel {

enum class SplitMode : uint8_t {
  // round-robin-split: row i of the step belongs to lane i % lanes
  kInterleave,
  // in-seq-split: each sequence's rows in 2 * lanes blocks; lane c gets blocks c and 2 * lanes - 1 - c
  kZigzag,
};

// How the T rows of a step are dealt over the lanes of a stage: a bijection of {0..T-1} with the lanes' local
// rows, local rows ascending in the step's order. A pure function of the sequences' row counts, the number of
// lanes and the mode, so every rank computes the same one.
//
// Zigzag: a sequence of n rows is cut in 2 C blocks of n / 2C rows; the n % 2C left-over rows go one each to
// consecutive blocks, starting at block 0 for the first sequence and where the last one stopped for the next,
// so that many short sequences (decodes) are dealt evenly too. With one sequence this is the reference's
// in-seq-split.
class RowSplit {
 public:
  // rows_of_sequence[s] >= 0; lanes >= 1.
  RowSplit(std::span<const int64_t> rows_of_sequence, int lanes, SplitMode mode);

  int lanes() const { return static_cast<int>(rows_of_lane_.size()); }
  int64_t rows() const { return static_cast<int64_t>(lane_of_row_.size()); }  // T
  int64_t CountOf(int lane) const { return static_cast<int64_t>(rows_of_lane_[lane].size()); }
  // The step's rows that `lane` owns, ascending; entry j is its local row j.
  std::span<const int32_t> RowsOf(int lane) const { return rows_of_lane_[lane]; }
  int LaneOf(int64_t row) const { return lane_of_row_[row]; }
  int32_t LocalOf(int64_t row) const { return local_of_row_[row]; }
  // After an all-gather in lane order, step row i lies at gathered row GatheredOf(i).
  int64_t GatheredOf(int64_t row) const { return first_of_lane_[lane_of_row_[row]] + local_of_row_[row]; }

 private:
  std::vector<std::vector<int32_t>> rows_of_lane_;
  std::vector<int32_t> lane_of_row_;
  std::vector<int32_t> local_of_row_;
  std::vector<int64_t> first_of_lane_;
};

// The most rows that a lane gets of a step of up to `rows` rows, whatever its sequences.
int64_t MostRows(int64_t rows, int lanes, SplitMode mode);

}  // namespace sluice::parallel
