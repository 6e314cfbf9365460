#include "ops/scalar_math.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace sluice::ops {
namespace {

constexpr double kLn2High = 0x1.62e42fefp-1;       // 33 leading bits of ln 2: n * kLn2High is exact
constexpr double kLn2Low = 0x1.473de6af278edp-34;  // ln 2 - kLn2High
constexpr double kLog2E = 0x1.71547652b82fep+0;    // 1 / ln 2

constexpr int kTerms = 14;
constexpr std::array<double, kTerms> kInverseFactorial = [] {
  std::array<double, kTerms> values{};
  double factorial = 1.0;  // exact
  for (int k = 0; k < kTerms; ++k) {
    if (k > 0) factorial *= k;
    values[k] = 1.0 / factorial;
  }
  return values;
}();

// Nearest integer, ties to even, for |x| < 2^51, without a library call.
double RoundToInteger(double x) {
  constexpr double kShift = 0x1.8p+52;
  return (x + kShift) - kShift;
}

double PowerOfTwo(int64_t exponent) {  // -1022 <= exponent <= 1023
  return std::bit_cast<double>(static_cast<uint64_t>(exponent + 1023) << 52);
}

}  // namespace

double Exp(double x) {
  if (std::isnan(x)) return x;
  if (x > 709.78) return std::numeric_limits<double>::infinity();
  if (x < -745.0) return 0.0;
  const double n = RoundToInteger(x * kLog2E);
  const double r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln 2 / 2
  // Taylor to r^13: the next term is below 5e-18.
  double sum = kInverseFactorial[13];
  for (int k = 12; k >= 0; --k) sum = sum * r + kInverseFactorial[k];
  const auto exponent = static_cast<int64_t>(n);
  const int64_t half = exponent / 2;  // two factors reach the subnormal numbers without underflow on the way
  return sum * PowerOfTwo(half) * PowerOfTwo(exponent - half);
}

double Log(double x) {
  if (x == 0.0) return -std::numeric_limits<double>::infinity();
  if (!(x > 0.0)) return std::numeric_limits<double>::quiet_NaN();
  if (std::isinf(x)) return x;
  const auto bits = std::bit_cast<uint64_t>(x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL);
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    ++exponent;
  }
  // ln m = 2 artanh(f), f = (m - 1) / (m + 1), |f| <= 0.1716: odd series to f^23 / 23.
  const double f = (mantissa - 1.0) / (mantissa + 1.0);
  const double f_squared = f * f;
  double sum = 0.0;
  for (int k = 23; k >= 3; k -= 2) sum = (1.0 / k + sum) * f_squared;
  const auto n = static_cast<double>(exponent);
  return n * kLn2High + (n * kLn2Low + 2.0 * (f + f * sum));
}

}  // namespace sluice::ops
