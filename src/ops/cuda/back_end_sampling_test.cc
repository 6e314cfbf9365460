#include <limits>

#include "ops/cuda/ops_on_gpu.h"
#include "ops/sampling.h"

// Ops::Sample and Ops::Logprobs of the GPU back end, against the host's code (ops/sampling.h): rows of all
// kinds in one call.
namespace sluice::ops::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct AskedRow {
  SamplingParams params;
  LogitAdjust adjust;
  int64_t position = 0;
};

// Flat and steep rows, ties over the whole row or in few values, and rows that cannot choose most tokens.
OwnedTensor RowsOfLogits(std::mt19937_64& random, int64_t rows, int64_t vocabulary) {
  OwnedTensor logits(DType::kF32, rows, vocabulary);
  std::normal_distribution<float> normal;
  const float deviations[] = {0.3F, 3.0F, 12.0F, 1.0F};
  for (int64_t t = 0; t < rows; ++t) {
    auto* row = logits.view().Row<float>(t);
    for (int64_t i = 0; i < vocabulary; ++i) {
      row[i] = deviations[t % 4] * normal(random);
      if (t % 5 == 2) row[i] = std::round(row[i]) * 0.5F;  // -0 as well as +0
      if (t % 11 == 5) row[i] = 1.25F;
      if (t % 13 == 6) row[i] = std::fabs(row[i]) < 1.0F ? 0.0F : -20.0F - row[i];
      if (t % 7 == 3 && i % 1500 > 20) row[i] = -kInfinity;
    }
  }
  return logits;
}

std::vector<AskedRow> AskedRows(std::mt19937_64& random, int64_t rows, int64_t vocabulary) {
  const float temperatures[] = {1.0F, 0.6F, 0.0F, 1.0F, 2.5F, 0.01F, 0.7F, 100.0F};
  const float shares[] = {1.0F, 0.95F, 0.5F, 1.0F, 0.999F, 1e-4F};
  const int32_t counts[] = {0, 50, 0, 1, 5000, 0, 1 << 30};
  const float least[] = {0.0F, 0.05F, 0.0F, 0.0F, 1.0F, 1e-6F, 0.0F, 0.0F, 0.0F};
  const int32_t tops[] = {0, 0, 5, 20, 0};
  std::vector<AskedRow> asked(static_cast<size_t>(rows));
  for (int64_t t = 0; t < rows; ++t) {
    AskedRow& row = asked[static_cast<size_t>(t)];
    row.params = {temperatures[t % 8],
                  shares[t % 6],
                  counts[random() % 7],
                  static_cast<uint64_t>(random() % 5),
                  std::min(tops[t % 5], static_cast<int32_t>(vocabulary)),
                  least[random() % 9]};
    row.position = static_cast<int64_t>(random() % 100000);
    // Rows with both lists have most tokens in both, one after the other.
    const bool dense = t % 12 == 10;
    if (t % 3 == 1) {
      row.adjust.repetition_penalty = t % 2 == 0 ? 1.3F : 0.8F;
      for (int64_t i = t % 4; i < vocabulary; i += dense ? 1 : 1 + static_cast<int64_t>(random() % 97)) {
        row.adjust.repeated.push_back(static_cast<int32_t>(i));
      }
    }
    if (t % 4 == 2) {
      for (int64_t i = 0; i < vocabulary; i += dense ? 1 : 1 + static_cast<int64_t>(random() % 53)) {
        const float bias = i > 0 && random() % 8 == 0 ? -kInfinity : static_cast<float>(random() % 9) - 4.0F;
        row.adjust.biases.push_back({static_cast<int32_t>(i), bias});
      }
    }
    if (t % 6 == 4) {
      for (int64_t i = 0; i < (vocabulary + 31) / 32; ++i) {
        row.adjust.allowed.push_back(static_cast<uint32_t>(random()) & static_cast<uint32_t>(random()));
      }
      row.adjust.allowed.front() |= 1U;
    }
  }
  return asked;
}

class SamplingOps : public OpsOnGpu {
 protected:
  std::vector<Sampled> Sample(const Tensor& logits, std::span<const AskedRow> asked) {
    std::vector<SamplingParams> params;
    std::vector<LogitAdjust> adjusts;
    std::vector<int64_t> positions;
    for (const AskedRow& row : asked) {
      params.push_back(row.params);
      adjusts.push_back(row.adjust);
      positions.push_back(row.position);
    }
    return ops_->Sample(logits, params, adjusts, positions);
  }
  // Tokens are the same; log-probabilities may differ in the last place (ops/cuda/sampling.h).
  static void ExpectSame(const Sampled& mine, const Sampled& right, const std::string& what) {
    EXPECT_EQ(mine.token, right.token) << what;
    EXPECT_NEAR(mine.logprob, right.logprob, 1e-6 * std::fabs(right.logprob)) << what;
    ASSERT_EQ(mine.top.size(), right.top.size()) << what;
    for (size_t i = 0; i < right.top.size(); ++i) {
      EXPECT_EQ(mine.top[i].token, right.top[i].token) << what;
      EXPECT_NEAR(mine.top[i].logprob, right.top[i].logprob, 1e-6 * std::fabs(right.top[i].logprob)) << what;
    }
  }
};

TEST_F(SamplingOps, DrawWhatTheHostDraws) {
  for (const auto& [vocabulary, rows] : {std::pair{129280, 66}, {5000, 130}, {1025, 40}, {31, 40}, {1, 9}}) {
    std::mt19937_64 random(22);
    const OwnedTensor logits = RowsOfLogits(random, rows, vocabulary);
    const std::vector<AskedRow> asked = AskedRows(random, rows, vocabulary);
    const OwnedTensor on_gpu = ToGpu(logits);
    const std::vector<Sampled> all = Sample(on_gpu, asked);
    ASSERT_EQ(std::ssize(all), rows);
    int64_t not_greedy = 0;
    for (int64_t t = 0; t < rows; ++t) {
      const AskedRow& row = asked[static_cast<size_t>(t)];
      const std::span<const float> values(logits.view().Row<float>(t), static_cast<size_t>(vocabulary));
      const Sampled right = SampleRow(values, row.params, row.adjust, row.position);
      ExpectSame(all[static_cast<size_t>(t)], right, fmt::format("row {} of {} tokens", t, vocabulary));
      not_greedy += right.token != SampleRow(values, {}, {}, 0).token ? 1 : 0;
      // Alone, the very bits.
      if (t % 3 == 0 || t + 1 == rows) {
        const std::vector<Sampled> alone = Sample(on_gpu.view().RowRange(t, 1), std::span(&row, 1));
        EXPECT_EQ(alone.front(), all[static_cast<size_t>(t)]) << "row " << t << " of " << vocabulary;
      }
    }
    EXPECT_GT(not_greedy, vocabulary > 1000 ? rows / 3 : -1);
  }
}

TEST_F(SamplingOps, LogprobsAreTheHosts) {
  constexpr int64_t kVocabulary = 5000;
  std::mt19937_64 random(23);
  const OwnedTensor logits = RowsOfLogits(random, 20, kVocabulary);
  std::vector<int32_t> targets;
  for (int64_t t = 0; t < 20; ++t) targets.push_back(t % 4 == 1 ? -1 : static_cast<int32_t>(7 * t));
  const OwnedTensor on_gpu = ToGpu(logits);
  for (const int32_t top : {0, 3, kMostLogprobs, kMostLogprobs + 1}) {
    const std::vector<Sampled> mine = ops_->Logprobs(on_gpu, targets, top);
    for (int64_t t = 0; t < 20; ++t) {
      const std::span<const float> row(logits.view().Row<float>(t), kVocabulary);
      const Sampled right = LogprobRow(row, targets[t], top);
      if (std::isinf(right.logprob)) continue;  // -infinity is not near itself
      ExpectSame(mine[t], right, fmt::format("row {}, {} likeliest", t, top));
    }
  }
}

// Whatever a row asks for, a step of many rows is as many launches and copies as one of few.
TEST_F(SamplingOps, LaunchesAndCopiesDoNotDependOnTheRows) {
  constexpr int64_t kVocabulary = 5000;
  constexpr int64_t kRows = 128;
  std::mt19937_64 random(24);
  const OwnedTensor on_gpu = ToGpu(RowsOfLogits(random, kRows, kVocabulary));
  const std::vector<AskedRow> mixed = AskedRows(random, kRows, kVocabulary);
  const std::vector<AskedRow> greedy(kRows);
  const auto count = [&](std::span<const AskedRow> asked) {
    const int64_t ops = ops_->ops_enqueued();
    const int64_t copies = ops_->copies();
    Sample(on_gpu.view().RowRange(0, std::ssize(asked)), asked);
    return std::pair{ops_->ops_enqueued() - ops, ops_->copies() - copies};
  };
  EXPECT_EQ(count(std::span(greedy).first(1)), (std::pair<int64_t, int64_t>{1, 2}));
  EXPECT_EQ(count(greedy), (std::pair<int64_t, int64_t>{1, 2}));
  // Row 4 is the first with a mask; those before have the other lists.
  EXPECT_EQ(count(std::span(mixed).first(5)), (std::pair<int64_t, int64_t>{3, 7}));
  EXPECT_EQ(count(mixed), (std::pair<int64_t, int64_t>{3, 7}));
}

std::string MessageOf(const std::function<void()>& what) {
  try {
    what();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST_F(SamplingOps, NameWhatMakesARowUseless) {
  constexpr int64_t kVocabulary = 5000;
  std::mt19937_64 random(25);
  for (const int64_t bad_row : {0, 1, 4}) {
    for (const float bad : {std::nanf(""), kInfinity}) {
      OwnedTensor logits = Random(random, DType::kF32, 5, kVocabulary, 3.0F);
      logits.view().At<float>(bad_row, 4321) = bad;
      const OwnedTensor on_gpu = ToGpu(logits);
      std::vector<AskedRow> asked(5);
      for (size_t t = 0; t < 5; t += 2) asked[t].params.temperature = 1.0F;
      EXPECT_NE(MessageOf([&] { Sample(on_gpu, asked); }).find("the logit of token 4321 "), std::string::npos)
          << bad_row;
    }
  }
  OwnedTensor logits = Random(random, DType::kF32, 2, kVocabulary, 3.0F);
  const OwnedTensor on_gpu = ToGpu(logits);
  std::vector<AskedRow> asked(2);
  // Adjusted out of the range of a float, and into nothing at all.
  logits.view().At<float>(1, 77) = 3.0F;
  const OwnedTensor large = ToGpu(logits);
  asked[1].adjust.repetition_penalty = 1e-39F;
  asked[1].adjust.repeated = {77};
  EXPECT_NE(MessageOf([&] { Sample(large, asked); }).find("the logit of token 77 "), std::string::npos);
  asked[1].adjust = {};
  asked[1].adjust.allowed.resize((kVocabulary + 31) / 32);
  EXPECT_NE(MessageOf([&] { Sample(on_gpu, asked); }).find("none of 5000 logits is finite"),
            std::string::npos);
  asked[1].adjust.allowed.pop_back();
  EXPECT_NE(MessageOf([&] { Sample(on_gpu, asked); }).find("does not fit a vocabulary of 5000"),
            std::string::npos);
  asked[1].adjust = {};
  asked[1].adjust.biases = {{5000, 1.0F}};
  EXPECT_NE(MessageOf([&] { Sample(on_gpu, asked); }).find("names token 5000"), std::string::npos);
}

}  // namespace
}  // namespace sluice::ops::cuda
