#pragma once

#include <cstdint>
#include <span>

#include "ops/ops.h"

namespace sluice::ops {

// A number in [0, 1) with 53 random bits, a pure function of its arguments (the SplitMix64 finaliser over
// both).
double UniformNumber(uint64_t seed, int64_t position);

// Ops::Sample and Ops::Logprobs of one row of logits, in plain scalar code shared by the CPU back ends. The
// result depends on the row, the parameters and the position alone. -infinity marks a token that cannot be
// chosen. Throws Error(kInternal) for a logit that is NaN or +infinity and for a row without a finite one.
//
// Sampling: candidates by value descending, then id ascending; the first top_k of them (0: all) share the
// mass exp((logit - largest) / temperature); of these the shortest prefix that holds top_p of that mass;
// of these the prefix whose mass is at least min_p times that of the first; the first candidate whose running
// sum exceeds UniformNumber(seed, position) times the mass of what is left. The adjust comes before all of
// this and touches neither log-probabilities nor alternatives. Throws Error(kInternal) for an adjust that
// does not fit the row or leaves no token.
Sampled SampleRow(std::span<const float> logits, const SamplingParams& params, const LogitAdjust& adjust,
                  int64_t position);
Sampled LogprobRow(std::span<const float> logits, int32_t target, int32_t top);

}  // namespace sluice::ops
