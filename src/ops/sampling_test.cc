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
  while (end > 1 && mass[end - 1] < params.min_p * mass[0]) kept -= mass[--end];
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
  const Sampled sampled = SampleRow(logits, {0.0F, 1.0F, 0, 0, 3}, {}, 0);
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
        SamplingParams{1.0F, 1e-6F, 0, 0, 0}, SamplingParams{1.0F, 1.0F, 0, 0, 0, 0.05F},
        SamplingParams{1.5F, 0.8F, 0, 0, 0, 0.3F}, SamplingParams{2.0F, 1.0F, 7, 0, 0, 0.6F},
        SamplingParams{1.0F, 1.0F, 0, 0, 0, 1.0F}}) {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      SamplingParams params = base;
      params.seed = seed;
      EXPECT_EQ(SampleRow(logits, params, {}, 11).token, PlainDraw(logits, params, 11)) << seed;
    }
  }
}

TEST(Sampling, FrequenciesFollowTheTemperedDistribution) {
  const std::vector<float> logits{0.0F, 1.0F, -1.0F, std::numeric_limits<float>::lowest()};
  std::vector<int> counts(4);
  for (int64_t position = 0; position < 20'000; ++position) {
    ++counts[SampleRow(logits, {0.5F, 1.0F, 0, 3, 0}, {}, position).token];
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

std::vector<uint32_t> MaskOf(const std::vector<int32_t>& tokens, size_t vocabulary) {
  std::vector<uint32_t> mask((vocabulary + 31) / 32);
  for (const int32_t token : tokens) mask[token / 32] |= 1U << (token % 32);
  return mask;
}

// The order of LogitAdjust written plainly, on a row of its own.
std::vector<float> PlainAdjust(std::vector<float> logits, const LogitAdjust& adjust) {
  for (int32_t token = 0; token < std::ssize(logits); ++token) {
    float& logit = logits[token];
    if (std::ranges::count(adjust.repeated, token) > 0) {
      if (logit > 0.0F) {
        logit = logit / adjust.repetition_penalty;
      } else {
        logit = logit * adjust.repetition_penalty;
      }
    }
    for (const TokenBias& entry : adjust.biases) {
      if (entry.token == token) logit = logit + entry.bias;
    }
    if (!adjust.allowed.empty() && !(adjust.allowed[token / 32] & (1U << (token % 32)))) {
      logit = -std::numeric_limits<float>::infinity();
    }
  }
  return logits;
}

TEST(Sampling, AnAdjustChoosesAsThePlainlyAdjustedRowDoesAndReportsTheRowAsItWas) {
  constexpr size_t kVocabulary = 1003;
  const std::vector<float> logits = RandomLogits(kVocabulary, 5);
  std::mt19937 rng(6);
  int changed = 0;
  for (int round = 0; round < 200; ++round) {
    LogitAdjust adjust;
    adjust.repetition_penalty = round % 2 == 0 ? 1.7F : 0.6F;
    std::vector<int32_t> allowed;
    for (int32_t token = 0; token < static_cast<int32_t>(kVocabulary); ++token) {
      if (rng() % 3 == 0) adjust.repeated.push_back(token);
      if (rng() % 4 == 0) adjust.biases.push_back({token, static_cast<float>(rng() % 800) / 100.0F - 4.0F});
      if (rng() % 50 == 0) adjust.biases.push_back({token + 1, -std::numeric_limits<float>::infinity()});
      if (!adjust.biases.empty() && adjust.biases.back().token == static_cast<int32_t>(kVocabulary)) {
        adjust.biases.pop_back();
      }
      if (rng() % 5 == 0) allowed.push_back(token);
    }
    if (round % 3 == 0) adjust.allowed = MaskOf(allowed, kVocabulary);
    const SamplingParams params{round % 4 == 0 ? 0.0F : 1.0F, 0.95F, 0, static_cast<uint64_t>(round), 3};
    const Sampled sampled = SampleRow(logits, params, adjust, round);
    const std::vector<float> plain = PlainAdjust(logits, adjust);
    ASSERT_EQ(sampled.token, SampleRow(plain, params, {}, round).token) << round;
    ASSERT_EQ(sampled, LogprobRow(logits, sampled.token, 3)) << "log-probabilities are of the row as it was";
    if (sampled.token != SampleRow(logits, params, {}, round).token) ++changed;
  }
  EXPECT_GT(changed, 100);
}

TEST(Sampling, OnlyAllowedTokensAreChosen) {
  const std::vector<float> logits = RandomLogits(100, 7);
  for (int32_t only = 0; only < 100; ++only) {
    EXPECT_EQ(SampleRow(logits, {2.0F, 1.0F, 0, 1, 0}, {1.0F, {}, {}, MaskOf({only}, 100)}, 3).token, only);
    EXPECT_EQ(SampleRow(logits, {0.0F}, {1.0F, {}, {}, MaskOf({only}, 100)}, 3).token, only);
  }
}

TEST(Sampling, AnAdjustThatDoesNotFitIsRefused) {
  const std::vector<float> logits = RandomLogits(100, 8);
  const auto refused = [&](const LogitAdjust& adjust) {
    EXPECT_THROW(SampleRow(logits, {1.0F}, adjust, 0), Error);
  };
  refused({1.5F, {100}, {}, {}});
  refused({1.5F, {-1}, {}, {}});
  refused({1.0F, {}, {{100, 1.0F}}, {}});
  refused({1.0F, {}, {}, {1, 1, 1}});
  refused({1.0F, {}, {}, {1, 1, 1, 1, 1}});
  refused({1.0F, {}, {}, {0, 0, 0, 0}});
  refused({1.0F, {}, {}, {0, 0, 0, 1U << 4}});
}

TEST(Sampling, ALogitThatIsNotANumberIsRefused) {
  std::vector<float> logits(10, 0.0F);
  logits[7] = std::nanf("");
  EXPECT_THROW(SampleRow(logits, {}, {}, 0), Error);
  const std::vector<float> nothing(10, -std::numeric_limits<float>::infinity());
  EXPECT_THROW(SampleRow(nothing, {}, {}, 0), Error);
  logits[7] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(SampleRow(logits, {1.0F, 1.0F, 0, 1, 0}, {}, 3).token,
            PlainDraw(logits, {1.0F, 1.0F, 0, 1, 0}, 3));
}

}  // namespace
}  // namespace sluice::ops
