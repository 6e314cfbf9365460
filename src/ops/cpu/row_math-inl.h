// Steps that several row kernels share, compiled once per instruction set.
#if defined(SLUICE_OPS_CPU_ROW_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_OPS_CPU_ROW_MATH_INL_H_
#undef SLUICE_OPS_CPU_ROW_MATH_INL_H_
#else
#define SLUICE_OPS_CPU_ROW_MATH_INL_H_
#endif

#include <cmath>

#include "base/error.h"
#include "ops/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::ops::cpu::HWY_NAMESPACE {

// body(value of type F32 or BF16): a loop compiled for the element type that `dtype` names.
template <class Body>
HWY_INLINE void WithType(DType dtype, const Body& body) {
  if (dtype == DType::kF32) {
    body(float{});
  } else {
    SLUICE_CHECK(dtype == DType::kBF16, "an activation of dtype {}", NameOf(dtype));
    body(BF16{});
  }
}
template <class Body>
HWY_INLINE void WithTypes(DType in, DType out, const Body& body) {
  WithType(in, [&](auto a) { WithType(out, [&](auto b) { body(a, b); }); });
}

// 1 / sqrt(mean(x^2) + eps).
template <class In>
HWY_INLINE float InverseRms(const In* x, int64_t n, float eps) {
  const float squares = Fold16(
      n, [](V sum, V v) { return Fma(v, v, sum); }, x);
  return 1.0F / std::sqrt(squares / static_cast<float>(n) + eps);
}

HWY_INLINE float FmaScalar(float a, float b, float c) { return std::fma(a, b, c); }

// Rotates n pairs of x in place: (a, b) -> (a cos - b sin, a sin + b cos), each a product and one FMA. Pairs
// are (2i, 2i + 1) when interleaved, else (i, i + n). angles holds n cosines, then n sines.
HWY_INLINE void Rotate(float* x, const float* angles, int64_t n, bool interleaved) {
  for (int64_t i = 0; i < n; ++i) {
    float& first = x[interleaved ? 2 * i : i];
    float& second = x[interleaved ? 2 * i + 1 : i + n];
    const float a = first;
    const float b = second;
    first = FmaScalar(a, angles[i], -(b * angles[n + i]));
    second = FmaScalar(a, angles[n + i], b * angles[i]);
  }
}

HWY_INLINE void RoundRowToBF16(float* x, int64_t n) {
  Map(
      n, [](V v) { return RoundBF16(v); }, x, static_cast<const float*>(x));
}

// Orthonormal Walsh-Hadamard transform in Sylvester order, n a power of two; times n^-1/2 at the end.
HWY_INLINE void Hadamard(float* x, int64_t n) {
  for (int64_t half = 1; half < n; half *= 2) {
    for (int64_t block = 0; block < n; block += 2 * half) {
      for (int64_t i = block; i < block + half; ++i) {
        const float a = x[i];
        const float b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
  const float factor = 1.0F / std::sqrt(static_cast<float>(n));
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

// codes = e4m3(x / scale), returns scale = PowerOfTwoScale(largest magnitude).
HWY_INLINE float QuantizeBlock(const float* x, int64_t n, F8E4M3* codes) {
  const float scale = PowerOfTwoScale(LargestMagnitude(x, n));
  const V inverse = hn::Set(D(), 1.0F / scale);  // exact: a power of two
  const auto quantize = [&](const float* from, F8E4M3* to) {
    StoreE4M3(RoundToE4M3(hn::Mul(LoadFloats(from), inverse)), to);
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) quantize(x + i, codes + i);
  if (i < n) {
    F8E4M3 tail[kLanes];
    quantize(Padded<float, kLanes>(x + i, n - i).values, tail);
    std::memcpy(codes + i, tail, static_cast<size_t>(n - i));
  }
  return scale;
}

}  // namespace sluice::ops::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
