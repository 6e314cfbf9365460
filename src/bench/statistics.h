#pragma once

#include <span>
#include <vector>

namespace sluice::bench {

// Of no values every one of these is 0, as the peers' clients report it.
double Mean(std::span<const double> values);
// Of the population: the root of the mean squared distance from the mean.
double StandardDeviation(std::span<const double> values);
// The value below which `percent` of 100 lie, linear between the neighbours of rank percent/100 (n - 1) in
// the sorted values: NumPy's default, and definition 7 of Hyndman and Fan (1996). 50: the median.
double Percentile(std::span<const double> values, double percent);

// What is said of one kind of duration; the unit is that of the values.
struct Summary {
  double mean = 0.0;
  double median = 0.0;
  double std = 0.0;
  double p90 = 0.0;
  double p95 = 0.0;
  double p99 = 0.0;
  double max = 0.0;
};
Summary SummaryOf(std::span<const double> values);

}  // namespace sluice::bench
