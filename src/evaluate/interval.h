#pragma once

#include <cmath>
#include <cstdint>

namespace sluice::evaluate {

struct Interval {
  double low = 0;
  double high = 1;
};

// Wilson's score interval of 95 % for a share of which `hits` of `trials` were seen (E. B. Wilson, 1927):
// unlike p +- 1.96 sigma it stays within 0 and 1 and says something when all or none were right. No trials:
// from 0 to 1.
inline Interval WilsonInterval(int64_t hits, int64_t trials) {
  if (trials == 0) return {};
  constexpr double kZ = 1.959963984540054;  // the normal distribution's 0.975 quantile
  const double n = static_cast<double>(trials);
  const double p = static_cast<double>(hits) / n;
  const double scale = 1 + kZ * kZ / n;
  const double centre = (p + kZ * kZ / (2 * n)) / scale;
  const double half = kZ / scale * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n));
  return {hits == 0 ? 0 : centre - half, hits == trials ? 1 : centre + half};
}

}  // namespace sluice::evaluate
