#include <algorithm>
#include <cmath>

#include "ops/cuda/back_end.h"
#include "ops/cuda/check.h"
#include "ops/cuda/draw_tokens.h"
#include "ops/cuda/reserved.h"
#include "ops/cuda/sampling.h"
#include "ops/sampling.h"

// All rows of a step go through the same few launches, and what they give comes back in one copy.
namespace sluice::ops::cuda {
namespace {

// A row is sampled on the host where more alternatives are wanted than the device finds.
bool OnDevice(int32_t top) { return top <= kMostLogprobs; }

Sampled SampleOnHost(const Tensor& row, const SamplingParams& params, const LogitAdjust& adjust,
                     int64_t position, Memory& memory) {
  const HostCopy copy(row, memory);
  return SampleRow({copy.view().Row<const float>(0), static_cast<size_t>(row.cols)}, params, adjust,
                   position);
}

// The lists of rows whose logits are adjusted, one row's behind the other's.
struct AdjustLists {
  std::vector<Adjust> adjusts;
  std::vector<int32_t> repeated;
  std::vector<AdjustedToken> biases;
  std::vector<uint32_t> allowed;

  static int64_t BytesOf(const LogitAdjust& adjust) {
    return static_cast<int64_t>(sizeof(Adjust) + adjust.repeated.size() * sizeof(int32_t) +
                                adjust.biases.size() * sizeof(AdjustedToken) +
                                adjust.allowed.size() * sizeof(uint32_t));
  }

  // Throws Error(kInternal) for one that does not fit the vocabulary.
  void Add(const LogitAdjust& adjust, int32_t row, int32_t adjusted_row, int64_t vocabulary) {
    int64_t before = -1;
    const auto check = [&](int32_t token) {
      if (token < 0 || token >= vocabulary) {
        Fail(ErrorKind::kInternal, "an adjust names token {} of a vocabulary of {}", token, vocabulary);
      }
      SLUICE_CHECK(token > before, "an adjust names token {} behind {}", token, before);
      before = token;
    };
    Adjust added{row, adjusted_row, adjust.repetition_penalty};
    added.repeated_begin = static_cast<int32_t>(repeated.size());
    for (const int32_t token : adjust.repeated) check(token), repeated.push_back(token);
    added.repeated_end = static_cast<int32_t>(repeated.size());
    before = -1;
    added.biases_begin = static_cast<int32_t>(biases.size());
    for (const auto& [token, bias] : adjust.biases) check(token), biases.push_back({token, bias});
    added.biases_end = static_cast<int32_t>(biases.size());
    if (!adjust.allowed.empty()) {
      if (std::ssize(adjust.allowed) != (vocabulary + 31) / 32) {
        Fail(ErrorKind::kInternal, "a mask of {} words does not fit a vocabulary of {}",
             adjust.allowed.size(), vocabulary);
      }
      added.allowed_begin = static_cast<int32_t>(allowed.size());
      allowed.insert(allowed.end(), adjust.allowed.begin(), adjust.allowed.end());
    }
    adjusts.push_back(added);
  }
};

}  // namespace

std::vector<Sampled> CudaOps::Sample(const Tensor& logits, std::span<const SamplingParams> params,
                                     std::span<const LogitAdjust> adjusts,
                                     std::span<const int64_t> positions) {
  std::vector<WantedOfRow> wanted;
  std::vector<Draw> draws;
  std::vector<const LogitAdjust*> adjusted;  // by the draw's adjusted_row
  for (int64_t t = 0; t < logits.rows; ++t) {
    const SamplingParams& row = params[t];
    wanted.push_back({WantedOfRow::kGreedy, OnDevice(row.top_logprobs) ? row.top_logprobs : 0});
    if (!OnDevice(row.top_logprobs) || (row.temperature <= 0.0F && adjusts[t].empty())) continue;
    Draw draw{static_cast<int32_t>(t), -1, std::max(row.temperature, 0.0F), row.top_p, row.min_p, row.top_k};
    draw.uniform = UniformNumber(row.seed, positions[t]);
    if (!adjusts[t].empty()) {
      draw.adjusted_row = static_cast<int32_t>(adjusted.size());
      adjusted.push_back(&adjusts[t]);
    }
    draws.push_back(draw);
  }
  std::vector<Sampled> sampled = ReadOut(logits, wanted, draws, adjusted);
  for (int64_t t = 0; t < logits.rows; ++t) {
    if (OnDevice(params[t].top_logprobs)) continue;
    sampled[static_cast<size_t>(t)] =
        SampleOnHost(logits.RowRange(t, 1), params[t], adjusts[t], positions[t], memory_);
  }
  return sampled;
}

std::vector<Sampled> CudaOps::Logprobs(const Tensor& logits, std::span<const int32_t> targets, int32_t top) {
  std::vector<Sampled> result;
  if (OnDevice(top)) {
    std::vector<WantedOfRow> wanted;
    for (const int32_t target : targets) {
      wanted.push_back(target < 0 ? WantedOfRow{WantedOfRow::kNone, 0} : WantedOfRow{target, top});
    }
    result = ReadOut(logits, wanted, {}, {});
    for (size_t t = 0; t < result.size(); ++t) result[t].token = std::max(targets[t], -1);
    return result;
  }
  Finish();
  const HostCopy copy(logits, memory_);
  for (int64_t t = 0; t < logits.rows; ++t) {
    result.push_back(
        LogprobRow({copy.view().Row<const float>(t), static_cast<size_t>(logits.cols)}, targets[t], top));
  }
  return result;
}

void CudaOps::AdjustLogits(const Tensor& logits, std::span<const Draw> draws,
                           std::span<const LogitAdjust* const> adjusted, float* to) {
  AdjustLists lists;
  int64_t bytes = 0;
  const auto enqueue = [&] {
    if (lists.adjusts.empty()) return;
    ReserveLists(bytes, 4);
    AdjustRows work;
    work.count = std::ssize(lists.adjusts);
    work.vocabulary = static_cast<int32_t>(logits.cols);
    work.logits = logits.Row<const float>(0);
    work.logits_stride = logits.stride;
    work.adjusts = Put(lists.adjusts);
    work.repeated = Put(lists.repeated);
    work.biases = Put(lists.biases);
    work.allowed = Put(lists.allowed);
    work.adjusted = to;
    Run(work, to, "the adjusted logits of {} rows", work.count);
    lists = {};
    bytes = 0;
  };
  for (const Draw& draw : draws) {
    if (draw.adjusted_row < 0) continue;
    const LogitAdjust& adjust = *adjusted[static_cast<size_t>(draw.adjusted_row)];
    if (bytes + AdjustLists::BytesOf(adjust) > kAdjustListBytes) enqueue();
    bytes += AdjustLists::BytesOf(adjust);
    lists.Add(adjust, draw.row, draw.adjusted_row, logits.cols);
  }
  enqueue();
}

std::vector<Sampled> CudaOps::ReadOut(const Tensor& logits, std::span<const WantedOfRow> wanted,
                                      std::span<const Draw> draws,
                                      std::span<const LogitAdjust* const> adjusted) {
  const int64_t rows = logits.rows;
  if (rows == 0) return {};
  const auto vocabulary = static_cast<int32_t>(logits.cols);
  std::vector<WantedOfRow> of_rows(wanted.begin(), wanted.end());
  int32_t top = 0;
  for (WantedOfRow& row : of_rows) {
    row.top = std::clamp(row.top, 0, vocabulary);
    top = std::max(top, row.top);
  }
  const SamplingSpace at = SpaceOfSampling(rows, std::ssize(draws), std::ssize(adjusted), vocabulary, top);
  std::byte* space = Workspace(at.total);
  ReserveAnswers(at.out_bytes);
  AdjustLogits(logits, draws, adjusted, reinterpret_cast<float*>(space + at.adjusted));
  ReserveLists(std::ssize(of_rows) * static_cast<int64_t>(sizeof(WantedOfRow)) +
                   static_cast<int64_t>(draws.size_bytes()),
               2);
  Likelihoods work;
  work.rows = rows;
  work.vocabulary = vocabulary;
  work.logits = logits.Row<const float>(0);
  work.logits_stride = logits.stride;
  work.wanted = Put(of_rows);
  work.top = top;
  work.workspace = space + at.inside;
  work.log_sum = reinterpret_cast<double*>(space + at.log_sum);
  // tokens, faults, log-probabilities [T], then the likeliest and theirs [T, top].
  auto* out = reinterpret_cast<int32_t*>(space);
  work.greedy = out;
  work.faults = out + rows;
  work.logprobs = reinterpret_cast<float*>(out + 2 * rows);
  work.top_ids = out + 3 * rows;
  work.top_logprobs = reinterpret_cast<float*>(out + (3 + top) * rows);
  Run(work, out, "the likelihoods of {} tokens in {} rows", vocabulary, rows);
  if (!draws.empty()) {
    DrawTokens draw;
    draw.count = std::ssize(draws);
    draw.vocabulary = vocabulary;
    draw.logits = work.logits;
    draw.logits_stride = work.logits_stride;
    draw.adjusted = reinterpret_cast<const float*>(space + at.adjusted);
    draw.draws = Put(draws);
    draw.workspace = space + at.inside;
    draw.log_sum = work.log_sum;
    draw.tokens = work.greedy;
    draw.logprobs = work.logprobs;
    draw.faults = work.faults;
    Run(draw, work.faults, "the tokens of {} rows of {}", draw.count, vocabulary);
  }
  stream_.Copy(out, answers_.data(), at.out_bytes);
  ++answers_brought_;
  Finish();

  const auto* answers = reinterpret_cast<const int32_t*>(answers_.data());
  const auto* values = reinterpret_cast<const float*>(answers_.data());
  std::vector<Sampled> sampled;
  for (int64_t t = 0; t < rows; ++t) {
    const int32_t fault = answers[rows + t];
    if (fault == vocabulary) {
      Fail(ErrorKind::kInternal, "none of {} logits is finite, so no token can be chosen", vocabulary);
    }
    if (fault >= 0) {
      Fail(ErrorKind::kInternal,
           "the logit of token {} is not a number or infinite, so no token can be chosen", fault);
    }
    Sampled& row = sampled.emplace_back(Sampled{answers[t], values[2 * rows + t], {}});
    for (int32_t i = 0; i < of_rows[static_cast<size_t>(t)].top; ++i) {
      row.top.push_back({answers[3 * rows + t * top + i], values[(3 + top) * rows + t * top + i]});
    }
  }
  return sampled;
}

void CudaOps::ReserveAnswers(int64_t bytes) {
  if (bytes <= answers_.bytes()) return;
  SLUICE_CHECK(!reserved_, "{} bytes of answers, and {} were reserved", bytes, answers_.bytes());
  stream_.Finish();
  answers_ = Buffer();
  answers_ = Buffer(bytes, memory_.Landing());
}

}  // namespace sluice::ops::cuda
