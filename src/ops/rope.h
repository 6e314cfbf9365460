#pragma once

#include <cstdint>
#include <span>
#include <vector>

// Rotary positions: frequencies, the softmax scale that belongs to them, and the sine and cosine of a
// position. Everything is computed by ops/scalar_math.h and ops/sine_cosine.h, so every host gets the same
// bits.
namespace sluice::ops {

struct RopeScaling {
  double theta = 10000.0;
  int64_t dim = 64;   // rotated channels, dim / 2 pairs
  bool yarn = false;  // the fields below count only when true
  double factor = 1.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double mscale = 1.0;
  double mscale_all_dim = 1.0;
  int64_t original_max_position = 4096;
};

// dim / 2 frequencies in radians per position, a chain of fp32 operations in the order in which Transformers
// and SGLang compute them (equal bits: tests/golden/model). Plain: f_i = theta^(-2i / dim). YaRN (static,
// equal at every length):
//   correction(rotations) = dim ln(original_max_position / (2 pi rotations)) / (2 ln theta)
//   low = max(floor(correction(beta_fast)), 0), high = min(ceil(correction(beta_slow)), dim - 1)
//   ramp_i = clamp((i - low) / (high - low), 0, 1);  inv_i = f_i / factor * ramp_i + f_i (1 - ramp_i)
// with high - low taken as 0.001 where they coincide.
std::vector<float> InverseFrequencies(const RopeScaling& scaling);

// The scale of q . k: query_width^-1/2, under YaRN times m^2 with
// m = 0.1 mscale_all_dim ln(factor) + 1 (m = 1 when factor <= 1).
double SoftmaxScale(int64_t query_width, const RopeScaling& scaling);

// What sine and cosine are multiplied with under YaRN: m(mscale) / m(mscale_all_dim). 1 for every known model
// of the family; RopeRow does not apply it, so a caller refuses a model where it is not 1.
double RopeAmplitude(const RopeScaling& scaling);

// n = inv_freq.size() cosines, then n sines, of angle_i = float(position) * inv_freq[i] (rounded to fp32, as
// the official code and Transformers do); each the true value of that angle rounded to fp32.
void RopeRow(int64_t position, std::span<const float> inv_freq, float* cos_then_sin);

}  // namespace sluice::ops
