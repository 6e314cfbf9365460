#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Ops::Sample of rows that are not greedy or whose logits are adjusted: the token that ops/sampling.h's
// SampleRow draws, with its arithmetic, its order of sums and so its very bits. Log-probabilities come from
// the row as it was before the adjust, by the log-sum-exp of sampling.h.
namespace sluice::ops::cuda {

inline constexpr int32_t kMostDrawVocabulary = 1 << 19;

// What SamplingParams and LogitAdjust ask of one row. Lists are of work.repeated and so on.
struct Draw {
  int32_t row = 0;            // of the logits
  int32_t adjusted_row = -1;  // of work.adjusted; -1: nothing is adjusted
  float temperature = 0.0F;   // 0: the lowest id among the largest
  float top_p = 1.0F;
  float min_p = 0.0F;
  int32_t top_k = 0;     // 0: all
  double uniform = 0.0;  // UniformNumber(seed, position)
};

struct AdjustedToken {
  int32_t token = 0;
  float bias = 0.0F;
};

// The adjust of one row: its lists are [begin, end) of those of all rows, and the tokens of each list differ.
struct Adjust {
  int32_t row = 0;  // of the logits
  int32_t adjusted_row = 0;
  float repetition_penalty = 1.0F;
  int32_t repeated_begin = 0, repeated_end = 0;
  int32_t biases_begin = 0, biases_end = 0;
  int32_t allowed_begin = -1;  // ceil(vocabulary / 32) words; -1: all tokens are
};

// All pointers are to device memory. Rows of `adjusted` are copies of rows of the logits, adjusted.
struct AdjustRows {
  int64_t count = 0;
  int32_t vocabulary = 0;
  const float* logits = nullptr;
  int64_t logits_stride = 0;
  const Adjust* adjusts = nullptr;  // [count]
  const int32_t* repeated = nullptr;
  const AdjustedToken* biases = nullptr;
  const uint32_t* allowed = nullptr;
  float* adjusted = nullptr;  // [rows, vocabulary]
};

struct DrawTokens {
  int64_t count = 0;
  int32_t vocabulary = 0;  // 1..kMostDrawVocabulary
  const float* logits = nullptr;
  int64_t logits_stride = 0;
  const float* adjusted = nullptr;  // [rows, vocabulary]
  const Draw* draws = nullptr;      // [count]
  void* workspace = nullptr;        // DrawBytes, aligned to 16
  const double* log_sum = nullptr;  // by row of the logits, as sampling.h leaves it; read
  int32_t* tokens = nullptr;        // by row of the logits; written
  float* logprobs = nullptr;        // by row of the logits; written
  // By row of the logits. A row that has one already is left alone; that of the adjusted row is written: the
  // lowest token that is NaN or +infinity, `vocabulary` where none is left that can be chosen.
  int32_t* faults = nullptr;
};

int64_t DrawBytes(int64_t count, int32_t vocabulary);

// One launch.
cudaError_t Enqueue(const AdjustRows& work, cudaStream_t stream);
// Two launches, whatever the count. cudaErrorInvalidValue for a vocabulary outside the limits above.
cudaError_t Enqueue(const DrawTokens& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
