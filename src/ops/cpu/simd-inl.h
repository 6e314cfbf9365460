// Helpers of the kernels, compiled once per instruction set: include after hwy/foreach_target.h.
// Each function does to every lane what it would do to one float, so bits never depend on the vector width.
#if defined(SLUICE_OPS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_OPS_CPU_SIMD_INL_H_
#undef SLUICE_OPS_CPU_SIMD_INL_H_
#else
#define SLUICE_OPS_CPU_SIMD_INL_H_
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::ops::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using DI = hn::RebindToSigned<D>;
using DU = hn::RebindToUnsigned<D>;
inline constexpr int64_t kLanes = hn::MaxLanes(D());

// a * b + c, rounded once.
HWY_INLINE V Fma(V a, V b, V c) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(D(), std::fma(hn::GetLane(a), hn::GetLane(b), hn::GetLane(c)));
#else
  return hn::MulAdd(a, b, c);
#endif
}

// The larger; a NaN in `a` is passed over (b is returned).
HWY_INLINE V LargerOrSecond(V a, V b) { return hn::IfThenElse(hn::Gt(a, b), a, b); }

HWY_INLINE V LoadFloats(const float* from) { return hn::LoadU(D(), from); }
HWY_INLINE V LoadFloats(const BF16* from) {
  const hn::Rebind<uint16_t, D> d16;
  return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), hn::LoadU(d16, &from->bits))));
}

// e4m3 codes as value * 2^-8, exact for all but the NaN codes, which come out as +-480 * 2^-8: an e4m3 code
// moved to the exponent and mantissa of a half (bias 15 against 7) is 2^-8 of its value, subnormals included.
HWY_INLINE V LoadScaledFloats(const F8E4M3* from) {
  const hn::Rebind<int8_t, D> d8;
  const hn::Rebind<int16_t, D> d16;
  const hn::Rebind<hwy::float16_t, D> df16;
  const auto wide = hn::PromoteTo(d16, hn::LoadU(d8, reinterpret_cast<const int8_t*>(from)));
  const auto half = hn::And(hn::ShiftLeft<7>(wide), hn::Set(d16, static_cast<int16_t>(-16512)));  // 0xbf80
  return hn::PromoteTo(D(), hn::BitCast(df16, half));
}
// e4m3 codes as their values, NaN codes as NaN.
HWY_INLINE V LoadFloats(const F8E4M3* from) {
  const D d;
  const V value = hn::Mul(LoadScaledFloats(from), hn::Set(d, 256.0F));
  return hn::IfThenElse(hn::Gt(hn::Abs(value), hn::Set(d, kF8Max)), hn::NaN(d), value);
}

// bf16 bits, rounded to nearest, ties to even; NaN stays NaN: ToBF16 lane by lane.
HWY_INLINE hn::Vec<DU> BF16Bits(V values) {
  const DU du;
  const auto bits = hn::BitCast(du, values);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1U));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7fffU)), odd));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40U));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(values)), quiet, rounded);
}
HWY_INLINE V RoundBF16(V values) { return hn::BitCast(D(), hn::ShiftLeft<16>(BF16Bits(values))); }

HWY_INLINE void StoreFloats(V values, float* to) { hn::StoreU(values, D(), to); }
HWY_INLINE void StoreFloats(V values, BF16* to) {
  const hn::Rebind<uint16_t, D> d16;
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(DI(), BF16Bits(values))), d16, &to->bits);
}

// The value of the e4m3 code nearest to x (ties to even) after clamping to +-448; NaN stays NaN.
HWY_INLINE V RoundToE4M3(V x) {
  const D d;
  const DU du;
  const V magnitude = hn::Min(hn::Abs(x), hn::Set(d, kF8Max));
  const auto bits = hn::BitCast(du, magnitude);
  const auto odd = hn::And(hn::ShiftRight<20>(bits), hn::Set(du, 1U));
  const auto rounded = hn::And(hn::Add(hn::Add(bits, hn::Set(du, 0x7ffffU)), odd), hn::Set(du, 0xfff00000U));
  // Below 2^-6 the step is 2^-9: adding 2^14 leaves a float whose last bit is that step.
  const V shift = hn::Set(d, 16384.0F);
  const V subnormal = hn::Sub(hn::Add(magnitude, shift), shift);
  const V value =
      hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 0.015625F)), subnormal, hn::BitCast(d, rounded));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::CopySign(value, x));
}

// The code of a value that RoundToE4M3 returned.
HWY_INLINE void StoreE4M3(V value, F8E4M3* to) {
  const D d;
  const DI di;
  const V magnitude = hn::Abs(value);
  const auto sign = hn::And(hn::ShiftRight<24>(hn::BitCast(DU(), value)), hn::Set(DU(), 0x80U));
  const auto normal = hn::Sub(hn::ShiftRight<20>(hn::BitCast(di, magnitude)), hn::Set(di, 120 << 3));
  const auto subnormal = hn::ConvertTo(di, hn::Mul(magnitude, hn::Set(d, 512.0F)));
  const auto is_subnormal = hn::RebindMask(di, hn::Lt(magnitude, hn::Set(d, 0.015625F)));
  const auto is_nan = hn::RebindMask(di, hn::IsNaN(value));
  const auto code =
      hn::IfThenElse(is_nan, hn::Set(di, 0x7f), hn::IfThenElse(is_subnormal, subnormal, normal));
  const hn::Rebind<uint8_t, D> d8;
  hn::StoreU(hn::DemoteTo(d8, hn::Or(code, hn::BitCast(di, sign))), d8, &to->bits);
}

// e^x within 2 units in the last place; 0 below -103.98, infinity above 88.73; NaN stays NaN.
HWY_INLINE V Exp(V x) {
  const D d;
  const DI di;
  // n = round(x / ln 2), kept in a range where both factors 2^(n/2), 2^(n - n/2) are normal numbers.
  const V bounded = hn::IfThenElse(hn::Lt(x, hn::Set(d, -110.0F)), hn::Set(d, -110.0F),
                                   hn::IfThenElse(hn::Gt(x, hn::Set(d, 90.0F)), hn::Set(d, 90.0F), x));
  const V shift = hn::Set(d, 12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer, ties to even
  const V n = hn::Sub(Fma(bounded, hn::Set(d, 1.44269504F), shift), shift);
  V r = Fma(n, hn::Set(d, -0.693145751953125F), bounded);  // ln 2 in two pieces, the first of 16 bits
  r = Fma(n, hn::Set(d, -1.42860682030941723e-6F), r);
  // Taylor to r^7 / 7! on |r| <= 0.347: the next term is below 2^-27.
  V sum = hn::Set(d, 1.0F / 5040);
  sum = Fma(sum, r, hn::Set(d, 1.0F / 720));
  sum = Fma(sum, r, hn::Set(d, 1.0F / 120));
  sum = Fma(sum, r, hn::Set(d, 1.0F / 24));
  sum = Fma(sum, r, hn::Set(d, 1.0F / 6));
  sum = Fma(sum, r, hn::Set(d, 0.5F));
  sum = Fma(sum, r, hn::Set(d, 1.0F));
  sum = Fma(sum, r, hn::Set(d, 1.0F));
  // NaN reaches here as NaN in `sum`; the integer conversion of its n is arbitrary but multiplies NaN.
  const auto exponent = hn::ConvertTo(di, hn::IfThenElse(hn::IsNaN(x), hn::Zero(d), n));
  const auto half = hn::ShiftRight<1>(exponent);
  const auto bias = hn::Set(di, 127);
  const V low = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const V high = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(exponent, half), bias)));
  return hn::Mul(hn::Mul(sum, low), high);
}

HWY_INLINE V Sigmoid(V x) {
  const V one = hn::Set(D(), 1.0F);
  return hn::Div(one, hn::Add(one, Exp(hn::Neg(x))));
}

// The first `count` of N elements, zeros after them: tails run through the same vector code as full vectors.
template <class T, int N>
struct Padded {
  HWY_INLINE Padded(const T* from, int64_t count) {
    std::memcpy(values, from, static_cast<size_t>(count) * sizeof(T));
  }
  T values[N] = {};
};

// out[i] = f(in[i]...) for i in [0, n), each input converted to fp32 and the result rounded to out's type.
template <class F, class Out, class... In>
HWY_INLINE void Map(int64_t n, const F& f, Out* out, const In*... in) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) StoreFloats(f(LoadFloats(in + i)...), out + i);
  if (i == n) return;
  Out tail[kLanes];
  StoreFloats(f(LoadFloats(Padded<In, kLanes>(in + i, n - i).values)...), tail);
  std::memcpy(out + i, tail, static_cast<size_t>(n - i) * sizeof(Out));
}

// Sixteen running lanes, whatever the vector width; Reduce adds them in one fixed tree.
struct Lanes16 {
  static constexpr int kVectors = kLanes >= 16 ? 1 : static_cast<int>(16 / kLanes);
  V lane[kVectors];

  HWY_INLINE void Clear() {
    for (auto& v : lane) v = hn::Zero(D());
  }
  float Reduce() const {
    float values[16];
    for (int i = 0; i < kVectors; ++i) hn::StoreU(lane[i], D(), values + i * kLanes);
    for (int width = 8; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) values[i] += values[i + width];
    }
    return values[0];
  }
};

// Sums (or other folds) over [0, n): lane i of 16 folds f(lane, in[i]...), f(lane, in[16 + i]...) and so on.
template <class F, class... In>
HWY_INLINE float Fold16(int64_t n, const F& f, const In*... in) {
  Lanes16 lanes;
  lanes.Clear();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int v = 0; v < Lanes16::kVectors; ++v)
      lanes.lane[v] = f(lanes.lane[v], LoadFloats(in + i + v * kLanes)...);
  }
  if (i < n) {
    [&](const auto&... tail) {
      for (int v = 0; v < Lanes16::kVectors; ++v) {
        lanes.lane[v] = f(lanes.lane[v], LoadFloats(tail.values + v * kLanes)...);
      }
    }(Padded<In, 16>(in + i, n - i)...);
  }
  return lanes.Reduce();
}

// The largest magnitude, NaN passed over; 0 for n = 0. (A maximum has no rounding, so its order is free.)
template <class In>
HWY_INLINE float LargestMagnitude(const In* in, int64_t n) {
  V largest = hn::Zero(D());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) largest = LargerOrSecond(hn::Abs(LoadFloats(in + i)), largest);
  if (i < n) largest = LargerOrSecond(hn::Abs(LoadFloats(Padded<In, kLanes>(in + i, n - i).values)), largest);
  return hn::GetLane(hn::MaxOfLanes(D(), largest));
}

}  // namespace sluice::ops::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
