#include "bench/fma_peak.h"

#include <algorithm>

#include "base/clock.h"
#include "tensor/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/fma_peak.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::bench::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

double Fmas(int64_t rounds) {
  const hn::ScalableTag<float> d;
  constexpr int kChains = 12;  // more than latency times ports, fewer than the registers
  hn::Vec<decltype(d)> sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = hn::Set(d, 1.0F + static_cast<float>(i));
  const auto a = hn::Set(d, 0.999F);
  const auto b = hn::Set(d, 0.001F);
  for (int64_t round = 0; round < rounds; ++round) {
    HWY_UNROLL(16)
    for (int i = 0; i < kChains; ++i) sum[i] = hn::MulAdd(sum[i], a, b);
  }
  auto total = sum[0];
  for (int i = 1; i < kChains; ++i) total = hn::Add(total, sum[i]);
  volatile float sink = hn::GetLane(total);
  static_cast<void>(sink);
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

int LaneCount() { return static_cast<int>(hn::Lanes(hn::ScalableTag<float>())); }
const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace sluice::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::bench {

HWY_EXPORT(Fmas);
HWY_EXPORT(LaneCount);
HWY_EXPORT(TargetName);

VectorUnit WidestVectorUnit() {
  return {HWY_DYNAMIC_DISPATCH(TargetName)(), HWY_DYNAMIC_DISPATCH(LaneCount)()};
}
double RunFmas(int64_t rounds) { return HWY_DYNAMIC_DISPATCH(Fmas)(rounds); }

double MeasureClock() {
  constexpr int64_t kMultiplications = 3'000'000;
  constexpr double kLatency = 3.0;  // of a 64-bit multiplication on every x86-64 core since 2008
  double best = 0.0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    uint64_t value = 3;
    const int64_t start = NowNs();
    for (int64_t i = 0; i < kMultiplications; ++i) {
      value *= value;
      asm volatile("" : "+r"(value));  // keeps the compiler from guessing the product
    }
    best = std::max(
        best, kLatency * static_cast<double>(kMultiplications) * 1e9 / static_cast<double>(NowNs() - start));
  }
  return best;
}

}  // namespace sluice::bench
#endif
