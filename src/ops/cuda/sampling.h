#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// What Ops::Sample and Ops::Logprobs want to know of rows of logits, without the rows leaving the device: the
// greedy token, the log-sum-exp, the log-probability of one token, the most likely tokens. All rows of a step
// go through the same launches, each by its own parameters; a row's results do not depend on its company.
// draw_tokens.h chooses where a row is not greedy.
//
// Exponentials, sums and logarithms are in double: blocks of 1,024 tokens in one fixed tree each, then block
// after block, as ops/sampling.cc has it but for the order inside a block; log-probabilities -> fp32. Order
// of tokens: value descending, -0 equal to +0, then id ascending.
namespace sluice::ops::cuda {

inline constexpr int32_t kMostLogprobs = 64;

// What is wanted of a row beside its greedy token.
struct WantedOfRow {
  static constexpr int32_t kGreedy = -1;
  static constexpr int32_t kNone = -2;
  int32_t target = kGreedy;  // whose log-probability; kGreedy: the greedy token's; kNone: 0 is written
  int32_t top = 0;           // how many of the most likely tokens, up to Likelihoods::top
};

// All pointers are to device memory.
struct Likelihoods {
  int64_t rows = 0;               // T
  int32_t vocabulary = 0;         // at least 1
  const float* logits = nullptr;  // [T, vocabulary]; -infinity: cannot be chosen
  int64_t logits_stride = 0;
  const WantedOfRow* wanted = nullptr;  // [T]
  int32_t top = 0;                      // the most of any row: 0..kMostLogprobs, no more than the vocabulary
  void* workspace = nullptr;            // LikelihoodsBytes, aligned to 16
  int32_t* greedy = nullptr;            // [T]: the lowest id among the largest
  double* log_sum = nullptr;            // [T]: ln sum exp(logits)
  float* logprobs = nullptr;            // [T]: of the targets
  int32_t* top_ids = nullptr;           // [T, top]; of a row that wants fewer, what follows them is undefined
  float* top_logprobs = nullptr;        // [T, top]
  // [T]: -1, or what makes the row useless: the lowest token whose logit is NaN or +infinity; `vocabulary`
  // where none is finite. The row's other outputs then mean nothing.
  int32_t* faults = nullptr;
};

// Bytes of workspace for so many rows.
int64_t LikelihoodsBytes(int64_t rows, int32_t vocabulary);

// Two launches, whatever the number of rows. cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const Likelihoods& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
