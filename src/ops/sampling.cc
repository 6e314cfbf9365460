#include "ops/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "ops/scalar_math.h"

namespace sluice::ops {
namespace {

constexpr int64_t kBlock = 1024;  // tokens whose exponentials are summed before blocks are merged

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

// sum_i exp((logits[i] - largest) / temperature) = sum, block by block.
struct Mass {
  double largest = -std::numeric_limits<double>::infinity();
  double sum = 0.0;
};

Mass MassOf(std::span<const float> logits, double temperature) {
  Mass total;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const auto block = logits.subspan(begin, std::min<size_t>(kBlock, logits.size() - begin));
    Mass part;
    for (const float logit : block) part.largest = std::max(part.largest, static_cast<double>(logit));
    if (std::isinf(part.largest)) continue;
    for (const float logit : block)
      part.sum += Exp((static_cast<double>(logit) - part.largest) / temperature);
    const double largest = std::max(total.largest, part.largest);
    total.sum = total.sum * Exp((total.largest - largest) / temperature) +
                part.sum * Exp((part.largest - largest) / temperature);
    total.largest = largest;
  }
  return total;
}

void CheckLogits(std::span<const float> logits) {
  bool any_finite = false;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<float>::infinity()) {
      Fail(ErrorKind::kInternal, "the logit of token {} is {}, so no token can be chosen", i, logits[i]);
    }
    any_finite = any_finite || std::isfinite(logits[i]);
  }
  if (!any_finite)
    Fail(ErrorKind::kInternal, "none of {} logits is finite, so no token can be chosen", logits.size());
}

std::vector<float> Adjusted(std::span<const float> logits, const LogitAdjust& adjust) {
  const auto check = [&](int32_t token) {
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) {
      Fail(ErrorKind::kInternal, "an adjust names token {} of a vocabulary of {}", token, logits.size());
    }
  };
  std::vector<float> row(logits.begin(), logits.end());
  for (const int32_t token : adjust.repeated) {
    check(token);
    float& logit = row[token];
    logit = logit > 0.0F ? logit / adjust.repetition_penalty : logit * adjust.repetition_penalty;
  }
  for (const auto& [token, bias] : adjust.biases) {
    check(token);
    row[token] += bias;
  }
  if (!adjust.allowed.empty()) {
    if (adjust.allowed.size() != (row.size() + 31) / 32) {
      Fail(ErrorKind::kInternal, "a mask of {} words does not fit a vocabulary of {}", adjust.allowed.size(),
           row.size());
    }
    for (size_t token = 0; token < row.size(); ++token) {
      if ((adjust.allowed[token / 32] >> (token % 32) & 1U) == 0) {
        row[token] = -std::numeric_limits<float>::infinity();
      }
    }
  }
  // A penalty can carry a logit beyond the largest float; what is below the smallest cannot be chosen.
  CheckLogits(row);
  return row;
}

// Token ids by logit descending, then id ascending; only the first `sorted` are in their place.
class Ranking {
 public:
  explicit Ranking(std::span<const float> logits) : logits_(logits), ids_(logits.size()) {
    std::iota(ids_.begin(), ids_.end(), 0);
  }
  size_t size() const { return ids_.size(); }
  int32_t operator[](size_t rank) {
    while (rank >= sorted_) SortMore();
    return ids_[rank];
  }

 private:
  void SortMore() {
    const size_t end = std::min(ids_.size(), sorted_ == 0 ? size_t{256} : 4 * sorted_);
    std::partial_sort(
        ids_.begin() + static_cast<std::ptrdiff_t>(sorted_), ids_.begin() + static_cast<std::ptrdiff_t>(end),
        ids_.end(),
        [this](int32_t a, int32_t b) { return logits_[a] != logits_[b] ? logits_[a] > logits_[b] : a < b; });
    sorted_ = end;
  }

  std::span<const float> logits_;
  std::vector<int32_t> ids_;
  size_t sorted_ = 0;
};

int32_t Draw(std::span<const float> logits, Ranking& ranking, const SamplingParams& params,
             int64_t position) {
  const double temperature = static_cast<double>(params.temperature);
  const double largest = static_cast<double>(logits[ranking[0]]);
  const size_t candidates =
      params.top_k > 0 ? std::min(ranking.size(), static_cast<size_t>(params.top_k)) : ranking.size();
  const auto mass_of = [&](size_t rank) {
    return Exp((static_cast<double>(logits[ranking[rank]]) - largest) / temperature);
  };
  double total = 0.0;
  if (candidates == ranking.size()) {
    total = MassOf(logits, temperature).sum;
  } else {
    for (size_t rank = 0; rank < candidates; ++rank) total += mass_of(rank);
  }

  double kept = total;
  size_t end = candidates;
  if (params.top_p < 1.0F) {
    kept = 0.0;
    end = 0;
    const double wanted = static_cast<double>(params.top_p) * total;
    while (end < candidates && (end == 0 || kept < wanted)) kept += mass_of(end++);
  }

  if (params.min_p > 0.0F) {
    // Mass falls with rank and the first one's is 1, whatever top_k and top_p have left.
    kept = 0.0;
    size_t likely = 0;
    while (likely < end && mass_of(likely) >= static_cast<double>(params.min_p)) kept += mass_of(likely++);
    end = likely;
  }

  const double target = UniformNumber(params.seed, position) * kept;
  double running = 0.0;
  int32_t chosen = ranking[0];
  for (size_t rank = 0; rank < end; ++rank) {
    const double mass = mass_of(rank);
    if (mass == 0.0) break;
    chosen = ranking[rank];
    running += mass;
    if (running > target) break;
  }
  return chosen;
}

Sampled Report(std::span<const float> logits, Ranking& ranking, int32_t token, int32_t top) {
  const Mass mass = MassOf(logits, 1.0);
  const double log_sum = mass.largest + Log(mass.sum);
  const auto logprob = [&](int32_t id) {
    return static_cast<float>(static_cast<double>(logits[id]) - log_sum);
  };
  Sampled result{token, logprob(token), {}};
  const size_t count = std::min(ranking.size(), static_cast<size_t>(std::max(top, 0)));
  for (size_t rank = 0; rank < count; ++rank) result.top.push_back({ranking[rank], logprob(ranking[rank])});
  return result;
}

}  // namespace

double UniformNumber(uint64_t seed, int64_t position) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ULL;
  const uint64_t keyed = Mix(seed + kGolden);
  const uint64_t bits = Mix(keyed ^ (static_cast<uint64_t>(position) * kGolden + kGolden));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Sampled SampleRow(std::span<const float> logits, const SamplingParams& params, const LogitAdjust& adjust,
                  int64_t position) {
  CheckLogits(logits);
  const auto choose = [&](std::span<const float> row, Ranking& ranking) {
    return params.temperature > 0.0F
               ? Draw(row, ranking, params, position)
               : static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
  };
  Ranking ranking(logits);
  if (adjust.empty()) return Report(logits, ranking, choose(logits, ranking), params.top_logprobs);
  const std::vector<float> adjusted = Adjusted(logits, adjust);
  Ranking adjusted_ranking(adjusted);
  return Report(logits, ranking, choose(adjusted, adjusted_ranking), params.top_logprobs);
}

Sampled LogprobRow(std::span<const float> logits, int32_t target, int32_t top) {
  if (target < 0) return {-1, 0.0F, {}};
  CheckLogits(logits);
  Ranking ranking(logits);
  return Report(logits, ranking, target, top);
}

}  // namespace sluice::ops
