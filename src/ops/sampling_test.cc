#include "ops/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/error.h"

namespace sluice::ops {
namespace {

std::vector<float> RandomLogits(size_t count, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal(0.0F, 2.0F);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(rng);
  return logits;
}

// The rule of the header, written plainly: every candidate sorted, every mass summed.
int32_t PlainDraw(const std::vector<float>& logits, const SamplingParams& params, int64_t position) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (params.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(params.top_k)));
  std::vector<long double> mass;
  for (const int32_t id : order) {
    mass.push_back(std::exp((static_cast<long double>(logits[id]) - logits[order[0]]) / params.temperature));
  }
  const long double total = std::accumulate(mass.begin(), mass.end(), 0.0L);
  long double kept = 0.0L;
  size_t end = 0;
  while (end < mass.size() && (end == 0 || kept < params.top_p * total)) kept += mass[end++];
  const long double target = UniformNumber(params.seed, position) * kept;
  long double running = 0.0L;
  for (size_t i = 0; i < end; ++i) {
    running += mass[i];
    if (running > target) return order[i];
  }
  return order[end - 1];
}

TEST(Sampling, UniformNumbersFillTheUnitIntervalAndDependOnBothArguments) {
  double sum = 0.0;
  double squares = 0.0;
  constexpr int kCount = 100'000;
  for (int i = 0; i < kCount; ++i) {
    const double u = UniformNumber(i % 7, i / 7);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += u * u;
  }
  EXPECT_NEAR(sum / kCount, 0.5, 0.004);
  EXPECT_NEAR(squares / kCount, 1.0 / 3, 0.004);
  EXPECT_NE(UniformNumber(1, 2), UniformNumber(2, 1));
  EXPECT_EQ(UniformNumber(5, 9), UniformNumber(5, 9));
}

TEST(Sampling, GreedyTakesTheLowestIdAmongTheLargest) {
  std::vector<float> logits(5000, -1.0F);
  logits[4000] = logits[3000] = 2.0F;
  const Sampled sampled = SampleRow(logits, {0.0F, 1.0F, 0, 0, 3}, 0);
  EXPECT_EQ(sampled.token, 3000);
  ASSERT_EQ(sampled.top.size(), 3U);
  EXPECT_EQ(sampled.top[0].token, 3000);
  EXPECT_EQ(sampled.top[1].token, 4000);
  EXPECT_EQ(sampled.top[2].token, 0);
}

TEST(Sampling, DrawsWhatThePlainRuleDraws) {
  const std::vector<float> logits = RandomLogits(3000, 4);
  for (const SamplingParams& base :
       {SamplingParams{1.0F, 1.0F, 0, 0, 0}, SamplingParams{0.7F, 0.9F, 0, 0, 0},
        SamplingParams{1.3F, 0.95F, 50, 0, 0}, SamplingParams{0.2F, 1.0F, 5, 0, 0},
        SamplingParams{1.0F, 1e-6F, 0, 0, 0}}) {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      SamplingParams params = base;
      params.seed = seed;
      EXPECT_EQ(SampleRow(logits, params, 11).token, PlainDraw(logits, params, 11)) << seed;
    }
  }
}

TEST(Sampling, FrequenciesFollowTheTemperedDistribution) {
  const std::vector<float> logits{0.0F, 1.0F, -1.0F, std::numeric_limits<float>::lowest()};
  std::vector<int> counts(4);
  for (int64_t position = 0; position < 20'000; ++position) {
    ++counts[SampleRow(logits, {0.5F, 1.0F, 0, 3, 0}, position).token];
  }
  const double total = 1 + std::exp(2.0) + std::exp(-2.0);
  EXPECT_NEAR(counts[0] / 20'000.0, 1 / total, 0.01);
  EXPECT_NEAR(counts[1] / 20'000.0, std::exp(2.0) / total, 0.01);
  EXPECT_NEAR(counts[2] / 20'000.0, std::exp(-2.0) / total, 0.01);
  EXPECT_EQ(counts[3], 0);
}

TEST(Sampling, LogprobsAreThoseOfTheUntemperedDistribution) {
  const std::vector<float> logits = RandomLogits(2500, 9);
  long double sum = 0.0L;
  for (const float logit : logits) sum += std::exp(static_cast<long double>(logit));
  const Sampled scored = LogprobRow(logits, 1234, 5);
  EXPECT_FLOAT_EQ(scored.logprob, static_cast<float>(logits[1234] - std::log(sum)));
  ASSERT_EQ(scored.top.size(), 5U);
  EXPECT_TRUE(std::is_sorted(scored.top.begin(), scored.top.end(),
                             [](const auto& a, const auto& b) { return a.logprob > b.logprob; }));
  EXPECT_EQ(LogprobRow(logits, -1, 5), (Sampled{-1, 0.0F, {}}));
}

TEST(Sampling, ALogitThatIsNotANumberIsRefused) {
  std::vector<float> logits(10, 0.0F);
  logits[7] = std::nanf("");
  EXPECT_THROW(SampleRow(logits, {}, 0), Error);
  const std::vector<float> nothing(10, -std::numeric_limits<float>::infinity());
  EXPECT_THROW(SampleRow(nothing, {}, 0), Error);
  logits[7] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(SampleRow(logits, {1.0F, 1.0F, 0, 1, 0}, 3).token, PlainDraw(logits, {1.0F, 1.0F, 0, 1, 0}, 3));
}

}  // namespace
}  // namespace sluice::ops
