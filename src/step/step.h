#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ops/ops.h"

namespace sluice::step {

// In place of a token that is not known when its step is published.
inline constexpr int32_t kAwaitedToken = -1;

// The part of one sequence in a step: `tokens` new rows at positions first_position, first_position + 1, ...
// Earlier positions are in the cache already. The pages hold every position up to the last new one.
struct StepSequence {
  uint64_t sequence = 0;  // the scheduler's name for it
  int32_t first_position = 0;
  std::vector<int32_t> tokens;  // at least one
  // >= 0: the one token here is kAwaitedToken, and stands for what this earlier step samples for the
  // sequence. The last stage sends it to the first directly.
  int64_t awaits_step = -1;
  std::vector<int32_t> pages;    // ceil((first_position + tokens.size()) / 64) of them
  bool sample = false;           // sample the token that follows the last row
  bool prompt_logprobs = false;  // log-probability of each row's next token (targets), for all rows here
  std::vector<int32_t> targets;  // with prompt_logprobs: the token after each row, -1 where none is wanted
  bool return_logits = false;    // the raw logits of every row here come back (comparisons, not service)
  ops::SamplingParams sampling;
  ops::LogitAdjust adjust;  // of the row that is sampled; the last stage applies it

  bool operator==(const StepSequence&) const = default;
};

// One forward pass of the whole pipeline: rows of any number of sequences, prefill chunks and decodes alike.
// The only thing the scheduler and the ranks share.
struct Step {
  int64_t id = 0;                   // consecutive from 0
  bool begins_busy_period = false;  // no other step was under way when it was published (trace/times.h)
  std::vector<StepSequence> sequences;

  int64_t rows() const;  // T
  // The step's rows in order: sequence by sequence, positions ascending.
  std::vector<int32_t> Tokens() const;
  std::vector<ops::RowPlace> Places() const;
  std::vector<int64_t> RowsOfSequences() const;

  bool operator==(const Step&) const = default;
};

// The most that any step of a job holds: what memory is reserved for.
struct StepLimits {
  int64_t rows = 0;       // 0: not known, and nothing is reserved
  int64_t sequences = 0;  // at most as many as rows
  int64_t positions = 0;  // of one sequence
};

// Little-endian fixed layout; Decode throws Error(kRankLost) for anything that Encode cannot have made
// (truncated, counts beyond the bytes left, negative sizes, pages that do not cover the rows).
std::vector<std::byte> Encode(const Step& step);
Step DecodeStep(std::span<const std::byte> bytes);

// What the last stage found for one sequence of a step.
struct SequenceResult {
  uint64_t sequence = 0;
  bool sampled = false;
  ops::Sampled token;                         // if sampled
  std::vector<ops::Sampled> prompt_logprobs;  // one per row when asked for; token is the target
  std::vector<float> logits;                  // rows x vocabulary when asked for
  bool operator==(const SequenceResult&) const = default;
};
struct StepResult {
  int64_t id = 0;
  std::vector<SequenceResult> sequences;  // in the step's order
  bool operator==(const StepResult&) const = default;
};
std::vector<std::byte> Encode(const StepResult& result);
StepResult DecodeStepResult(std::span<const std::byte> bytes);

}  // namespace sluice::step
