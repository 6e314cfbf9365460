#include "ops/cuda/sampling.h"

#include <limits>

#include "ops/cuda/device_rows.h"
#include "ops/sampling.h"

namespace sluice::ops::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Sampling : public OnGpu {
 protected:
  // What the kernels say of rows [first, first + count), in host order.
  // `targets`: of all rows, -1 for none; none at all: the greedy tokens'.
  static Outputs Run(const Input& logits, int64_t first, int64_t count, int64_t vocabulary, int32_t top,
                     const std::vector<int32_t>& targets = {}) {
    std::vector<WantedOfRow> wanted(static_cast<size_t>(count), {WantedOfRow::kGreedy, top});
    for (int64_t t = 0; t < count && !targets.empty(); ++t) {
      const int32_t target = targets[first + t];
      wanted[t].target = target < 0 ? WantedOfRow::kNone : target;
    }
    const OnDevice<WantedOfRow> on_wanted(wanted);
    const Output greedy(DType::kI32, count, 1), log_sum(DType::kU8, count, 8),
        logprobs(DType::kF32, count, 1), top_ids(DType::kI32, count, top),
        top_logprobs(DType::kF32, count, top), faults(DType::kI32, count, 1);
    const auto words = static_cast<int32_t>(vocabulary);
    const Output workspace(DType::kU8, 1, LikelihoodsBytes(count, words));
    Likelihoods work;
    work.rows = count;
    work.vocabulary = words;
    work.logits = logits.Row<float>(first);
    work.logits_stride = logits.stride();
    work.wanted = on_wanted.data();
    work.top = top;
    work.workspace = workspace.data();
    work.greedy = greedy.data<int32_t>();
    work.log_sum = log_sum.data<double>();
    work.logprobs = logprobs.data<float>();
    work.top_ids = top_ids.data<int32_t>();
    work.top_logprobs = top_logprobs.data<float>();
    work.faults = faults.data<int32_t>();
    Must(Enqueue(work, nullptr));
    static_cast<void>(workspace.Get());  // nothing beyond it was written
    Outputs out;
    out["greedy"] = greedy.Get();
    out["log_sum"] = log_sum.Get();
    out["logprobs"] = logprobs.Get();
    out["top_ids"] = top_ids.Get();
    out["top_logprobs"] = top_logprobs.Get();
    out["faults"] = faults.Get();
    return out;
  }
};

// Against the host's code. Every third row has few values, so that the largest tie, over blocks too; every
// fourth cannot choose most tokens.
TEST_F(Sampling, SaysWhatTheHostSays) {
  struct Case {
    int64_t vocabulary;
    int64_t rows;
    int32_t top;
  };
  for (const Case& c : {Case{129280, 130, 20}, Case{154880, 33, 64}, Case{1000, 5, 64}, Case{1025, 5, 1},
                        Case{129280, 5, 0}, Case{1, 3, 1}}) {
    std::mt19937_64 random(20);
    OwnedTensor logits = Random(random, DType::kF32, c.rows, c.vocabulary, 3.0F);
    std::vector<int32_t> targets;
    for (int64_t t = 0; t < c.rows; ++t) {
      auto* row = logits.view().Row<float>(t);
      for (int64_t i = 0; i < c.vocabulary; ++i) {
        if (t % 3 == 2) row[i] = std::round(row[i]) * 0.5F;  // -0 as well as +0
        if (t % 4 == 3 && i % 1500 > 20) row[i] = -kInfinity;
      }
      targets.push_back(t % 7 == 6 ? -1 : static_cast<int32_t>(random() % c.vocabulary));
    }
    const Input on_logits(logits, 64);
    Outputs truth;
    truth["greedy"] = OwnedTensor(DType::kI32, c.rows, 1);
    truth["log_sum"] = OwnedTensor(DType::kU8, c.rows, 8);
    truth["logprobs"] = OwnedTensor(DType::kF32, c.rows, 1);
    truth["top_ids"] = OwnedTensor(DType::kI32, c.rows, c.top);
    truth["top_logprobs"] = OwnedTensor(DType::kF32, c.rows, c.top);
    truth["faults"] = OwnedTensor(DType::kI32, c.rows, 1);
    for (int64_t t = 0; t < c.rows; ++t) {
      const std::span<const float> row(logits.view().Row<float>(t), c.vocabulary);
      SamplingParams params;
      params.top_logprobs = c.top;
      const Sampled greedy = SampleRow(row, params, {}, 0);
      truth["greedy"].view().At<int32_t>(t, 0) = greedy.token;
      truth["faults"].view().At<int32_t>(t, 0) = -1;
      truth["logprobs"].view().At<float>(t, 0) = LogprobRow(row, targets[t], 0).logprob;
      for (int32_t k = 0; k < c.top; ++k) {
        truth["top_ids"].view().At<int32_t>(t, k) = greedy.top[k].token;
        truth["top_logprobs"].view().At<float>(t, k) = greedy.top[k].logprob;
      }
    }
    const Outputs all = Run(on_logits, 0, c.rows, c.vocabulary, c.top, targets);
    // Sums in double, as on the host: its last bits alone may differ. (-infinity where the token cannot be.)
    int64_t different = 0;
    for (int64_t t = 0; t < c.rows; ++t) {
      const float* row = logits.view().Row<float>(t);
      double sum = 0.0;
      for (int64_t i = 0; i < c.vocabulary; ++i) sum += std::exp(static_cast<double>(row[i]));
      double log_sum = 0.0;
      std::memcpy(&log_sum, all.at("log_sum").view().Row<std::byte>(t), 8);
      EXPECT_NEAR(log_sum, std::log(sum), 1e-12) << t;
      std::memcpy(truth["log_sum"].view().Row<std::byte>(t), &log_sum, 8);
      for (const char* name : {"logprobs", "top_logprobs"}) {
        for (int64_t k = 0; k < truth[name].view().cols; ++k) {
          const float mine = all.at(name).view().At<float>(t, k);
          const float right = truth[name].view().At<float>(t, k);
          if (mine == right) continue;
          ++different;
          EXPECT_NEAR(mine, right, 1e-6 * std::fabs(right)) << name << " of row " << t;
        }
      }
    }
    EXPECT_LE(different, c.rows * (c.top + 1) / 100);
    for (const char* name : {"greedy", "top_ids", "faults"}) ExpectEqualBits(all.at(name), truth[name], name);
    for (const int64_t first : {int64_t{0}, int64_t{2}, c.rows - 1}) {
      for (const auto& [name, tensor] : Run(on_logits, first, 1, c.vocabulary, c.top, targets)) {
        ExpectEqualBits(tensor, all.at(name).view().RowRange(first, 1), name + " of a row alone");
      }
    }
    for (const auto& [name, tensor] : Run(on_logits, 0, 0, c.vocabulary, c.top))
      EXPECT_EQ(tensor.view().rows, 0);
    // Without targets the log-probability is the greedy token's.
    const Outputs greedy = Run(on_logits, 0, c.rows, c.vocabulary, 1);
    ExpectEqualBits(greedy.at("logprobs"), greedy.at("top_logprobs"), "of the greedy token");
    ExpectEqualBits(greedy.at("greedy"), greedy.at("top_ids"), "the greedy token");
  }
}

TEST_F(Sampling, NamesWhatMakesARowUseless) {
  constexpr int64_t kVocabulary = 5000;
  std::mt19937_64 random(21);
  OwnedTensor logits = Random(random, DType::kF32, 5, kVocabulary, 3.0F);
  logits.view().At<float>(1, 4999) = std::nanf("");
  logits.view().At<float>(1, 1030) = std::nanf("");
  logits.view().At<float>(2, 3) = kInfinity;
  logits.view().At<float>(2, 4) = -std::nanf("");
  for (int64_t i = 0; i < kVocabulary; ++i) logits.view().At<float>(3, i) = -kInfinity;
  const Input on_logits(logits);
  const OwnedTensor faults = std::move(Run(on_logits, 0, 5, kVocabulary, 2)["faults"]);
  const int32_t right[] = {-1, 1030, 3, kVocabulary, -1};
  for (int64_t t = 0; t < 5; ++t) EXPECT_EQ(faults.view().At<int32_t>(t, 0), right[t]) << t;
}

}  // namespace
}  // namespace sluice::ops::cuda
