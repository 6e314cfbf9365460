#include "golden_compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace sluice::golden {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

// (score - kth) / deviation of a recorded near key; `absent` for another.
double NearDistance(const Vectors& vectors, int64_t cell, int32_t position, double absent) {
  for (int32_t i = vectors.near_offsets[cell]; i < vectors.near_offsets[cell + 1]; ++i) {
    if (vectors.near_positions[i] == position) return vectors.near_distances[i];
  }
  return absent;
}

bool WellFormed(std::span<const int32_t> positions, int64_t row, int64_t top_k) {
  const int64_t count = std::min(top_k, row + 1);
  if (static_cast<int64_t>(positions.size()) != top_k) return false;
  for (int64_t i = 0; i < top_k; ++i) {
    if (i >= count) {
      if (positions[i] != -1) return false;
    } else if (positions[i] < 0 || positions[i] > row || (i > 0 && positions[i] <= positions[i - 1])) {
      return false;
    }
  }
  return true;
}

}  // namespace

LogitsDistance CompareLogits(std::span<const float> other, std::span<const float> reference) {
  SLUICE_CHECK(other.size() == reference.size() && !reference.empty());
  double energy = 0.0;
  double error = 0.0;
  std::vector<double> gaps;
  gaps.reserve(reference.size());
  for (size_t i = 0; i < reference.size(); ++i) {
    const double gap = static_cast<double>(other[i]) - static_cast<double>(reference[i]);
    energy += static_cast<double>(reference[i]) * static_cast<double>(reference[i]);
    error += gap * gap;
    gaps.push_back(std::fabs(gap));
  }
  const double rms = std::sqrt(energy / static_cast<double>(reference.size()));
  const bool finite = std::isfinite(error);
  return {finite ? std::sqrt(error / energy) : kInfinite,
          finite ? Percentile99(std::move(gaps)) / rms : kInfinite};
}

double Percentile99(std::vector<double> values) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  const double place = 0.99 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, values.size() - 1);
  const double part = place - static_cast<double>(below);
  // Written so that an infinite neighbour gives infinity, not a NaN.
  return part == 0.0 ? values[below] : (1.0 - part) * values[below] + part * values[above];
}

RowRegret CompareRow(const Vectors& vectors, int64_t layer, int64_t row, std::span<const int32_t> positions) {
  if (!WellFormed(positions, row, vectors.top_k)) return {vectors.top_k, kInfinite, kInfinite};
  const int64_t cell = layer * vectors.rows() + row;
  RowRegret regret;
  double lost = 0.0;  // sum of scores of the reference's set minus that of this one
  for (const int32_t p : positions) {
    if (p < 0 || vectors.Selected(layer, row, p)) continue;
    const double below = -NearDistance(vectors, cell, p, -kInfinite);
    ++regret.swapped;
    regret.strict = std::max(regret.strict, below);
    lost += below;
  }
  if (regret.swapped == 0) return regret;
  for (const int32_t p : vectors.Selection(layer, row)) {
    if (!std::binary_search(positions.begin(), positions.end(), p))
      lost += NearDistance(vectors, cell, p, kInfinite);
  }
  regret.mean = lost / static_cast<double>(vectors.top_k);
  return regret;
}

bool HasChoice(const Vectors& vectors, int64_t layer, int64_t row) {
  return vectors.margin[layer * vectors.rows() + row] < kNoChoice;
}

bool IsClear(const Vectors& vectors, int64_t layer, int64_t row) {
  const int64_t cell = layer * vectors.rows() + row;
  return HasChoice(vectors, layer, row) && static_cast<double>(vectors.margin[cell]) >
                                               kClearMargin * static_cast<double>(vectors.deviation[cell]);
}

void LayerSelection::Add(int64_t row, std::span<const int32_t> positions) {
  ++rows_;
  const RowRegret regret = CompareRow(vectors_, layer_, row, positions);
  const bool changed = regret.swapped != 0;
  changed_ += changed;
  if (!HasChoice(vectors_, layer_, row)) {
    forced_changed_ += changed;
    return;
  }
  strict_.push_back(regret.strict);
  largest_mean_ = std::max(largest_mean_, regret.mean);
  if (IsClear(vectors_, layer_, row)) {
    ++clear_;
    clear_changed_ += changed;
  } else {
    unclear_changed_ += changed;
    unclear_regret_ = std::max(unclear_regret_, regret.strict);
  }
}

std::string LayerSelection::Summary() const {
  return fmt::format(
      "{} layer {}: {} rows, {} with a choice, {} of them clear; sets that differ: {} (clear {}, unclear {}, "
      "without "
      "choice {}); regret strict p99 {:.1e}, largest mean {:.1e}",
      vectors_.name, layer_, rows_, with_choice(), clear_, changed_, clear_changed_, unclear_changed_,
      forced_changed_, strict_p99(), largest_mean_);
}

}  // namespace sluice::golden
