#pragma once

#include "ops/sine_cosine.h"

// Elementary functions of double written from +, -, * and bit operations alone, so that they give the same
// bits on every host (a C library may not). Relative error below 1e-15 unless said otherwise.
namespace sluice::ops {

// e^x. 0 below -745, infinity above 709.8; NaN gives NaN.
double Exp(double x);
// Natural logarithm of x > 0 (normal numbers); -infinity at 0.
double Log(double x);

}  // namespace sluice::ops
