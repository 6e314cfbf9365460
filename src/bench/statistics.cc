#include "bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sluice::bench {
namespace {

double PercentileOfSorted(std::span<const double> sorted, double percent) {
  if (sorted.empty()) return 0.0;
  const double rank = percent / 100.0 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], rank - static_cast<double>(below));
}

std::vector<double> Sorted(std::span<const double> values) {
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  return sorted;
}

}  // namespace

double Mean(std::span<const double> values) {
  if (values.empty()) return 0.0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double StandardDeviation(std::span<const double> values) {
  if (values.empty()) return 0.0;
  const double mean = Mean(values);
  double squares = 0.0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

double Percentile(std::span<const double> values, double percent) {
  return PercentileOfSorted(Sorted(values), percent);
}

Summary SummaryOf(std::span<const double> values) {
  const std::vector<double> sorted = Sorted(values);
  return {Mean(sorted),
          PercentileOfSorted(sorted, 50.0),
          StandardDeviation(sorted),
          PercentileOfSorted(sorted, 90.0),
          PercentileOfSorted(sorted, 95.0),
          PercentileOfSorted(sorted, 99.0),
          sorted.empty() ? 0.0 : sorted.back()};
}

}  // namespace sluice::bench
