#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "golden_vectors.h"

// How far an engine lies from the vectors. The definitions are those of distance.py; the bounds stand here.
namespace sluice::golden {

// Exact mode against Transformers.
inline constexpr double kClearMargin = 1e-5;       // of the deviation: rows above it must have equal sets
inline constexpr double kClearShare = 0.995;       // at least this share of the rows that have a choice
inline constexpr double kExactRelativeRms = 1e-5;  // of logits
// Fp8 mode against fp8_simulation.py.
inline constexpr double kFp8RelativeRms = 2e-3;
inline constexpr double kFp8P99 = 1e-2;
inline constexpr double kFp8Regret = 1e-3;          // layer 0: 99th percentile of strict, largest mean regret
inline constexpr double kFp8DeepMeanRegret = 1e-2;  // later layers: largest mean regret

struct LogitsDistance {
  double relative_rms = 0.0;  // rms(other - reference) / rms(reference)
  double p99 = 0.0;           // 99th percentile of |other - reference| / rms(reference)
};
LogitsDistance CompareLogits(std::span<const float> other, std::span<const float> reference);

// The 99th percentile with linear interpolation between neighbours; 0 for no values.
double Percentile99(std::vector<double> values);

// A row's set against the reference's, under the reference's scores, in deviations of the row. Infinite when
// the set is malformed (wrong size, unordered, a position twice or beyond the row) or a swapped key lies
// outside the window of recorded near keys.
struct RowRegret {
  int64_t swapped = 0;  // keys the reference did not choose
  double strict = 0.0;  // largest (kth - score) over those
  double mean = 0.0;    // (mean score of the reference's set - mean score of this one)
};
// `positions`: the row's selection as ops write it, ascending, -1 after the last.
RowRegret CompareRow(const Vectors& vectors, int64_t layer, int64_t row, std::span<const int32_t> positions);

// Whether the row has more than top_k visible keys, and whether its margin is clear.
bool HasChoice(const Vectors& vectors, int64_t layer, int64_t row);
bool IsClear(const Vectors& vectors, int64_t layer, int64_t row);

// All rows of a layer, fed one by one in any order.
class LayerSelection {
 public:
  LayerSelection(const Vectors& vectors, int64_t layer) : vectors_(vectors), layer_(layer) {}
  void Add(int64_t row, std::span<const int32_t> positions);

  int64_t rows() const { return rows_; }
  int64_t with_choice() const { return static_cast<int64_t>(strict_.size()); }
  int64_t clear() const { return clear_; }
  int64_t clear_changed() const { return clear_changed_; }  // must be 0 in exact mode
  int64_t unclear_changed() const { return unclear_changed_; }
  double unclear_regret() const { return unclear_regret_; }   // largest strict one of unclear rows
  int64_t forced_changed() const { return forced_changed_; }  // rows without choice that are not all keys
  double strict_p99() const { return Percentile99(strict_); }
  double largest_mean() const { return largest_mean_; }
  std::string Summary() const;

 private:
  const Vectors& vectors_;
  int64_t layer_;
  int64_t rows_ = 0;
  int64_t clear_ = 0;
  int64_t clear_changed_ = 0;
  int64_t unclear_changed_ = 0;
  int64_t forced_changed_ = 0;
  int64_t changed_ = 0;
  double unclear_regret_ = 0.0;
  double largest_mean_ = 0.0;
  std::vector<double> strict_;
};

}  // namespace sluice::golden
