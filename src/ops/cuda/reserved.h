#pragma once

#include <cstdint>

#include "ops/ops.h"

// What the GPU back end keeps for the inside of its ops, and how much of it the largest of them takes.
namespace sluice::ops::cuda {

// Scores are kept for so many rows at once that they take no more than this, however long the context is. Nor
// do keys as bf16, of 233,000 tokens.
inline constexpr int64_t kScoreBytes = int64_t{256} << 20;
// What CUDA takes at most for the recording of a layer. Measured on an H200 over two lanes, where collectives
// cut it into four graphs; where it is part of one graph it takes less.
inline constexpr int64_t kGraphBytesOfLayer = int64_t{1} << 20;
// Tile counters in turn (gemm.h).
inline constexpr int64_t kCounters = 64;

// Rows whose scores SelectKeys keeps at once, `stride` fp32 each: within kScoreBytes, at least one.
int64_t ScoredRows(int64_t rows, int64_t stride);

// Codes and scales of the activations of an FP8 linear, [rows, inputs]: the scales first, then the codes.
struct QuantizedBytes {
  int64_t scales = 0;
  int64_t codes = 0;
  int64_t total() const { return scales + codes; }
};
QuantizedBytes BytesOfQuantized(int64_t rows, int64_t inputs);

// Lists by which rows of logits are adjusted that are brought to the device at once: a row's are less, with
// any vocabulary that there is.
inline constexpr int64_t kAdjustListBytes = int64_t{8} << 20;

// What comes back of rows of logits with `top` likeliest tokens each, and where it is computed. out | log_sum
// | inside | adjusted.
struct SamplingSpace {
  int64_t out_bytes = 0;  // from the beginning
  int64_t log_sum = 0;
  int64_t inside = 0;
  int64_t adjusted = 0;
  int64_t total = 0;
};
// `drawn` of the rows are not greedy, and the logits of `adjusted` are adjusted.
SamplingSpace SpaceOfSampling(int64_t rows, int64_t drawn, int64_t adjusted, int64_t vocabulary, int32_t top);

struct Reserved {
  int64_t workspace = 0;
  int64_t answers = 0;  // of pinned host memory
  int64_t staging = 0;
  int64_t graph_lists = 0;  // of a recorded pass
};
// For ops within `limits` on `sms` SMs.
Reserved ReservedFor(const OpLimits& limits, int sms);
// All device memory that a back end then holds.
int64_t ReservedBytes(const OpLimits& limits, int sms);

}  // namespace sluice::ops::cuda
