#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace sluice::ops {

struct SinCos {
  double sin = 0.0;
  double cos = 0.0;
};

// Sine and cosine of an angle in radians, |angle| <= 2^31. Absolute error below 1e-15. The same bits on every
// host and GPU.
SLUICE_HOST_DEVICE inline SinCos SineCosine(double angle) {
  constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
  // pi / 2 in pieces of 22 bits, so that n * piece is exact for n < 2^31.
  constexpr double kHalfPi1 = 0x1.921fbp+0;
  constexpr double kHalfPi2 = 0x1.5110bp-22;
  constexpr double kHalfPi3 = 0x1.184698p-44;
  constexpr double kHalfPi4 = 0x1.3198a2e037073p-69;
  constexpr double kShift = 0x1.8p+52;  // adding it rounds to an integer, ties to even
  constexpr double kInverseFactorial[] = {1.0 / 1.0,
                                          1.0 / 1.0,
                                          1.0 / 2.0,
                                          1.0 / 6.0,
                                          1.0 / 24.0,
                                          1.0 / 120.0,
                                          1.0 / 720.0,
                                          1.0 / 5040.0,
                                          1.0 / 40320.0,
                                          1.0 / 362880.0,
                                          1.0 / 3628800.0,
                                          1.0 / 39916800.0,
                                          1.0 / 479001600.0,
                                          1.0 / 6227020800.0,
                                          1.0 / 87178291200.0,
                                          1.0 / 1307674368000.0,
                                          1.0 / 20922789888000.0,
                                          1.0 / 355687428096000.0,
                                          1.0 / 6402373705728000.0};

  const double n = (Product(angle, kTwoOverPi) + kShift) - kShift;
  const double r = (((angle - Product(n, kHalfPi1)) - Product(n, kHalfPi2)) - Product(n, kHalfPi3)) -
                   Product(n, kHalfPi4);  // |r| <= pi / 4
  const double r_squared = Product(r, r);
  // Taylor to r^17 and r^18: the next terms are below 1e-19.
  double sine = kInverseFactorial[17];
  for (int k = 15; k >= 1; k -= 2) sine = kInverseFactorial[k] - Product(sine, r_squared);
  sine = Product(sine, r);
  double cosine = kInverseFactorial[18];
  for (int k = 16; k >= 0; k -= 2) cosine = kInverseFactorial[k] - Product(cosine, r_squared);
  switch (static_cast<int64_t>(n) & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

}  // namespace sluice::ops
