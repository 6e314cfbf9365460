#pragma once

#include <cstdint>

// ops/scalar_math.h's Exp on the device, operation for operation and so to the bit: nothing here may be
// contracted into a fused multiply-add.
namespace sluice::ops::cuda {

__device__ inline double PowerOfTwo(int64_t exponent) {  // -1022 <= exponent <= 1023
  return __longlong_as_double((exponent + 1023) << 52);
}

__device__ inline double Exp(double x) {
  constexpr double kLn2High = 0x1.62e42fefp-1;
  constexpr double kLn2Low = 0x1.473de6af278edp-34;
  constexpr double kLog2E = 0x1.71547652b82fep+0;
  constexpr double kShift = 0x1.8p+52;  // rounds to an integer, ties to even
  if (x != x) return x;
  if (x > 709.78) return INFINITY;
  if (x < -745.0) return 0.0;
  const double n = __dadd_rn(__dadd_rn(__dmul_rn(x, kLog2E), kShift), -kShift);
  const double r = __dadd_rn(__dadd_rn(x, -__dmul_rn(n, kLn2High)), -__dmul_rn(n, kLn2Low));
  // 1 / k!, rounded once: the factorials are exact.
  constexpr double kInverse[] = {1.0 / 6227020800.0,
                                 1.0 / 479001600.0,
                                 1.0 / 39916800.0,
                                 1.0 / 3628800.0,
                                 1.0 / 362880.0,
                                 1.0 / 40320.0,
                                 1.0 / 5040.0,
                                 1.0 / 720.0,
                                 1.0 / 120.0,
                                 1.0 / 24.0,
                                 1.0 / 6.0,
                                 0.5,
                                 1.0,
                                 1.0};
  double sum = kInverse[0];
#pragma unroll
  for (int i = 1; i < 14; ++i) sum = __dadd_rn(__dmul_rn(sum, r), kInverse[i]);
  const auto exponent = static_cast<int64_t>(n);
  const int64_t half = exponent / 2;
  return __dmul_rn(__dmul_rn(sum, PowerOfTwo(half)), PowerOfTwo(exponent - half));
}

}  // namespace sluice::ops::cuda
