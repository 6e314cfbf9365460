// The inner product kernel behind linears, index scores and attention, compiled once per instruction set.
#if defined(SLUICE_OPS_CPU_MICROKERNEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_OPS_CPU_MICROKERNEL_INL_H_
#undef SLUICE_OPS_CPU_MICROKERNEL_INL_H_
#else
#define SLUICE_OPS_CPU_MICROKERNEL_INL_H_
#endif

#include "hwy/cache_control.h"
#include "ops/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::ops::cpu::HWY_NAMESPACE {

// Rows times vectors of one register tile: enough accumulators to cover the latency of two FMA units, few
// enough to stay in registers together with the operands.
#if HWY_TARGET == HWY_SCALAR
inline constexpr int kTileRows = 2;
inline constexpr int kTileVectors = 4;
#elif HWY_TARGET == HWY_AVX2
inline constexpr int kTileRows = 6;
inline constexpr int kTileVectors = 2;
#elif HWY_TARGET == HWY_AVX3
inline constexpr int kTileRows = 12;
inline constexpr int kTileVectors = 2;
#else
inline constexpr int kTileRows = 6;
inline constexpr int kTileVectors = 4;
#endif
inline constexpr int64_t kTileColumns = kTileVectors * kLanes;
inline constexpr int kCacheLine = 64;  // bytes

// Weights as the kernel multiplies them; e4m3 comes as value * 2^-8, which the caller's block scale makes
// good.
HWY_INLINE V LoadOperand(const float* from) { return LoadFloats(from); }
HWY_INLINE V LoadOperand(const BF16* from) { return LoadFloats(from); }
HWY_INLINE V LoadOperand(const F8E4M3* from) { return LoadScaledFloats(from); }

// The loop of Tile::Multiply. A function of its own, so that the compiler has all registers for it.
template <int kRows, int kVectors, int kRowStep, bool kPrefetch, class B>
HWY_NOINLINE void MultiplyLoop(V (&sums)[kRows][kVectors], const float* a, int64_t a_step, const B* b,
                               int64_t b_stride, int64_t k, int64_t ahead) {
  V sum[kRows][kVectors];
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = sums[r][v];
  }
  for (int64_t i = 0; i < k; ++i) {
    if constexpr (kPrefetch) {
      HWY_UNROLL(16)
      for (int64_t v = 0; v < kTileColumns; v += kCacheLine / static_cast<int>(sizeof(B)))
        hwy::Prefetch(b + ahead + v);
    }
    V operand[kVectors];
    HWY_UNROLL(16)
    for (int v = 0; v < kVectors; ++v) operand[v] = LoadOperand(b + v * kLanes);
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      const V x = hn::Set(D(), a[int64_t{r} * kRowStep]);
      HWY_UNROLL(16)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Fma(x, operand[v], sum[r][v]);
    }
    a += a_step;
    b += b_stride;
  }
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(16)
    for (int v = 0; v < kVectors; ++v) sums[r][v] = sum[r][v];
  }
}

template <int kRows, int kVectors>
struct Tile {
  V sum[kRows][kVectors];

  HWY_INLINE void Clear() {
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(16)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(D());
    }
  }
  // c is [kRows][stride].
  HWY_INLINE void Load(const float* c, int64_t stride) {
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(16)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = LoadFloats(c + r * stride + v * kLanes);
    }
  }
  HWY_INLINE void Store(float* c, int64_t stride) const {
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(16)
      for (int v = 0; v < kVectors; ++v) StoreFloats(sum[r][v], c + r * stride + v * kLanes);
    }
  }
  // sum[r][v] += a(i, r) * b[i][v] for i ascending: one FMA chain per output. a(i, r) = a[i * a_step + r *
  // kRowStep] and b is [k][b_stride]. `ahead` (or nullptr) is memory needed soon, laid out as b: a row of it
  // is asked for with each i, because between many multiplications the hardware's own prefetch comes too
  // late.
  template <int kRowStep = 1, class B>
  HWY_INLINE void Multiply(const float* a, int64_t a_step, const B* b, int64_t b_stride, int64_t k,
                           const B* ahead = nullptr) {
    if (ahead != nullptr) {
      MultiplyLoop<kRows, kVectors, kRowStep, true>(sum, a, a_step, b, b_stride, k, ahead - b);
    } else {
      MultiplyLoop<kRows, kVectors, kRowStep, false>(sum, a, a_step, b, b_stride, k, 0);
    }
  }
};

// body(std::integral_constant<int, kRows>, first row) for the tiles that cover rows [0, rows): full tiles
// first, then one of half, a quarter... the height.
template <int kRows, class Body>
HWY_INLINE void ForEachTile(int64_t row, int64_t rows, const Body& body) {
  for (; row + kRows <= rows; row += kRows) body(std::integral_constant<int, kRows>(), row);
  if constexpr (kRows > 1) {
    if (row < rows) ForEachTile<(kRows > 4 ? 4 : kRows / 2), Body>(row, rows, body);
  }
}

// out[c][r] = in[r][c] for rows and columns that are multiples of 4.
HWY_INLINE void Transpose(const float* in, int64_t in_stride, int64_t rows, int64_t columns, float* out,
                          int64_t out_stride) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) out[c * out_stride + r] = in[r * in_stride + c];
  }
#else
  const hn::FixedTag<float, 4> d4;
  const hn::Repartition<double, decltype(d4)> d2;
  for (int64_t r = 0; r < rows; r += 4) {
    for (int64_t c = 0; c < columns; c += 4) {
      const float* from = in + r * in_stride + c;
      const auto r0 = hn::LoadU(d4, from);
      const auto r1 = hn::LoadU(d4, from + in_stride);
      const auto r2 = hn::LoadU(d4, from + 2 * in_stride);
      const auto r3 = hn::LoadU(d4, from + 3 * in_stride);
      const auto low01 = hn::BitCast(d2, hn::InterleaveLower(d4, r0, r1));
      const auto high01 = hn::BitCast(d2, hn::InterleaveUpper(d4, r0, r1));
      const auto low23 = hn::BitCast(d2, hn::InterleaveLower(d4, r2, r3));
      const auto high23 = hn::BitCast(d2, hn::InterleaveUpper(d4, r2, r3));
      float* to = out + c * out_stride + r;
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d2, low01, low23)), d4, to);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d2, low01, low23)), d4, to + out_stride);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d2, high01, high23)), d4, to + 2 * out_stride);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d2, high01, high23)), d4, to + 3 * out_stride);
    }
  }
#endif
}

}  // namespace sluice::ops::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
