#include "ops/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "ops/scalar_math.h"

namespace sluice::ops {
namespace {

double Magnitude(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * Log(factor) + 1.0;
}

}  // namespace

std::vector<float> InverseFrequencies(const RopeScaling& scaling) {
  const double log_theta = Log(scaling.theta);
  const auto dim = static_cast<double>(scaling.dim);
  const auto correction = [&](double rotations) {
    const auto positions = static_cast<double>(scaling.original_max_position);
    return dim * Log(positions / (rotations * 2.0 * std::numbers::pi)) / (2.0 * log_theta);
  };
  double low = 0.0;
  double width = 1.0;
  if (scaling.yarn) {
    low = std::max(std::floor(correction(scaling.beta_fast)), 0.0);
    const double high = std::min(std::ceil(correction(scaling.beta_slow)), dim - 1.0);
    width = high == low ? 0.001 : high - low;
  }
  // In fp32, operation by operation as Transformers and SGLang compute it, so that long positions turn by the
  // same angles to the last bit.
  std::vector<float> inverse(static_cast<size_t>(scaling.dim / 2));
  for (size_t i = 0; i < inverse.size(); ++i) {
    const auto index = static_cast<double>(i);
    const auto wavelength = static_cast<float>(Exp(2.0 * index / dim * log_theta));
    const float plain = 1.0F / wavelength;
    inverse[i] = plain;
    if (scaling.yarn) {
      const float interpolated = 1.0F / (static_cast<float>(scaling.factor) * wavelength);
      const auto ramp = static_cast<float>(std::clamp((index - low) / width, 0.0, 1.0));
      const float kept = 1.0F - ramp;
      inverse[i] = interpolated * (1.0F - kept) + plain * kept;
    }
  }
  return inverse;
}

double SoftmaxScale(int64_t query_width, const RopeScaling& scaling) {
  const double base = 1.0 / std::sqrt(static_cast<double>(query_width));
  if (!scaling.yarn) return base;
  const double magnitude = Magnitude(scaling.factor, scaling.mscale_all_dim);
  return base * magnitude * magnitude;
}

double RopeAmplitude(const RopeScaling& scaling) {
  if (!scaling.yarn) return 1.0;
  return Magnitude(scaling.factor, scaling.mscale) / Magnitude(scaling.factor, scaling.mscale_all_dim);
}

void RopeRow(int64_t position, std::span<const float> inv_freq, float* cos_then_sin) {
  const auto place = static_cast<float>(position);
  const size_t n = inv_freq.size();
  for (size_t i = 0; i < n; ++i) {
    const float angle = place * inv_freq[i];
    const SinCos value = SineCosine(static_cast<double>(angle));
    cos_then_sin[i] = static_cast<float>(value.cos);
    cos_then_sin[n + i] = static_cast<float>(value.sin);
  }
}

}  // namespace sluice::ops
