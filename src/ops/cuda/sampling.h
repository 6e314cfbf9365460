#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// What Ops::Sample and Ops::Logprobs want to know of a row of logits, without the row leaving the device: the
// greedy token, the log-sum-exp, the log-probability of one token, the most likely tokens. A row that is
// sampled otherwise, or whose logits are adjusted, goes to ops/sampling.h on the host.
//
// Exponentials, sums and logarithms are in double: blocks of 1,024 tokens in one fixed tree each, then block
// after block, as ops/sampling.cc has it but for the order inside a block; log-probabilities -> fp32. Order
// of tokens: value descending, -0 equal to +0, then id ascending.
namespace sluice::ops::cuda {

inline constexpr int32_t kMostLogprobs = 64;

// All pointers are to device memory.
struct Likelihoods {
  int64_t rows = 0;               // T
  int32_t vocabulary = 0;         // at least 1
  const float* logits = nullptr;  // [T, vocabulary]; -infinity: cannot be chosen
  int64_t logits_stride = 0;
  const int32_t* targets = nullptr;  // [T]; null: the greedy tokens; -1: none, its logprob is 0
  int32_t top = 0;                   // 0..kMostLogprobs, no more than the vocabulary
  void* workspace = nullptr;         // LikelihoodsBytes, aligned to 16
  int32_t* greedy = nullptr;         // [T]: the lowest id among the largest
  double* log_sum = nullptr;         // [T]: ln sum exp(logits)
  float* logprobs = nullptr;         // [T]: of the targets
  int32_t* top_ids = nullptr;        // [T, top]
  float* top_logprobs = nullptr;     // [T, top]
  // [T]: -1, or what makes the row useless: the lowest token whose logit is NaN or +infinity; `vocabulary`
  // where none is finite. The row's other outputs then mean nothing.
  int32_t* faults = nullptr;
};

// Bytes of workspace for so many rows.
int64_t LikelihoodsBytes(int64_t rows, int32_t vocabulary, int32_t top);

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const Likelihoods& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
