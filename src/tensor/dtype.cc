#include "tensor/dtype.h"

#include <cmath>
#include <limits>

namespace sluice {

float HalfToFloat(uint16_t half) {
  const uint32_t sign = (half & 0x8000U) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fU;
  const uint32_t mantissa = half & 0x3ffU;
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide_exponent = exponent == 31 ? 255U : exponent + 112U;
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (mantissa << 13));
}

float ToFloat(F8E4M3 value) {
  const bool negative = (value.bits & 0x80U) != 0;
  const int exponent = (value.bits >> 3) & 0xf;
  const int mantissa = value.bits & 0x7;
  float magnitude = 0.0F;
  if (exponent == 15 && mantissa == 7) {
    magnitude = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -9);
  } else {
    magnitude = std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  }
  return negative ? -magnitude : magnitude;
}

F8E4M3 ToF8E4M3(float value) {
  const auto sign = static_cast<uint8_t>(std::signbit(value) ? 0x80 : 0);
  if (std::isnan(value)) return {static_cast<uint8_t>(sign | 0x7f)};
  const float magnitude = std::fmin(std::fabs(value), kF8Max);
  // Quantum: 2^(e-3) for a value in [2^e, 2^(e+1)), never below the subnormal step 2^-9.
  int exponent = magnitude > 0.0F ? std::ilogb(magnitude) : -6;
  if (exponent < -6) exponent = -6;
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 3 - exponent)));
  // `steps` counts quanta: 8..16 for normals (16 carries into the next exponent), 0..8 at the subnormal end.
  const int code = steps < 8 ? steps : ((exponent + 7) << 3) + (steps - 8);
  return {static_cast<uint8_t>(sign | code)};
}

}  // namespace sluice
