#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "one_rank.h"

namespace sluice::gpu {

// sqrt(sum (a - b)^2 / sum b^2) of one row of logits.
inline double RelativeRms(const float* a, const float* b, int64_t width) {
  double difference = 0.0;
  double size = 0.0;
  for (int64_t i = 0; i < width; ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

// What the distance of a right back end from the CPU may be, over that of noise to no noise (jitter_ops.h):
// of the median row's logits, and of the keys chosen, these beside a few where noise moves next to none.
inline constexpr double kMostOverNoise = 1.2;
inline constexpr double kFewKeys = 1e-3;

// How far one run of a model lies from another.
struct Distances {
  std::vector<double> logits;     // relative rms of each row, ascending
  std::vector<double> selection;  // of each layer: share of the keys chosen that the other did not choose
  double At(double share) const {
    return logits[static_cast<size_t>(share * static_cast<double>(logits.size() - 1))];
  }
};

inline Distances DistancesOf(const OneRank::Fed& fed, const OneRank::Fed& from, int64_t vocabulary) {
  Distances result;
  const int64_t rows = std::ssize(from.logits) / vocabulary;
  for (int64_t row = 0; row < rows; ++row) {
    const float* a = fed.logits.data() + row * vocabulary;
    const float* b = from.logits.data() + row * vocabulary;
    result.logits.push_back(RelativeRms(a, b, vocabulary));
  }
  std::sort(result.logits.begin(), result.logits.end());
  for (size_t layer = 0; layer < from.selections.size(); ++layer) {
    const int64_t top_k = std::ssize(from.selections[layer]) / rows;
    int64_t chosen = 0;
    int64_t missing = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const auto mine = fed.selections[layer].begin() + row * top_k;
      const auto theirs = from.selections[layer].begin() + row * top_k;
      const auto end = std::find(theirs, theirs + top_k, -1);
      const auto mine_end = std::find(mine, mine + top_k, -1);
      chosen += end - theirs;
      missing +=
          std::count_if(theirs, end, [&](int32_t p) { return !std::binary_search(mine, mine_end, p); });
    }
    result.selection.push_back(static_cast<double>(missing) /
                               static_cast<double>(std::max<int64_t>(chosen, 1)));
  }
  return result;
}

// Greedy tokens where there is but one: rows of `from` whose two most likely tokens lie further apart than
// kClear times what a row may be off by, relative_rms of its rms.
inline constexpr double kClear = 8.0;  // two logits of such a row differ by more about once in 10^8
struct GreedyTokens {
  int64_t clear = 0;  // rows
  int64_t other = 0;  // of these, those where `fed` has another token
};
inline GreedyTokens CompareGreedy(const OneRank::Fed& fed, const OneRank::Fed& from, int64_t vocabulary,
                                  double relative_rms) {
  GreedyTokens result;
  for (auto a = fed.logits.begin(), b = from.logits.begin(); b != from.logits.end();
       a += vocabulary, b += vocabulary) {
    const auto best = std::max_element(b, b + vocabulary);
    double size = 0.0;
    float next = -std::numeric_limits<float>::infinity();
    for (auto value = b; value != b + vocabulary; ++value) {
      size += std::pow(static_cast<double>(*value), 2);
      if (value != best) next = std::max(next, *value);
    }
    if (*best - next <= kClear * relative_rms * std::sqrt(size / static_cast<double>(vocabulary))) continue;
    ++result.clear;
    if (std::max_element(a, a + vocabulary) - a != best - b) ++result.other;
  }
  return result;
}

}  // namespace sluice::gpu
