#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "schedule/scheduler.h"
#include "step/step.h"

// What the scheduler's tests give it and read of its steps.
namespace sluice::schedule {

// `size` tokens from 1000 on, every other prompt's beginning.
inline NewSequence Prompt(uint64_t id, int32_t size, int64_t max_tokens) {
  NewSequence sequence;
  sequence.id = id;
  sequence.prompt.resize(static_cast<size_t>(size));
  std::iota(sequence.prompt.begin(), sequence.prompt.end(), 1000);
  sequence.max_tokens = max_tokens;
  return sequence;
}

// What the last stage would answer: every wanted sample is `token`.
inline step::StepResult Answer(const step::Step& step, int32_t token = 5) {
  step::StepResult result;
  result.id = step.id;
  for (const step::StepSequence& part : step.sequences) {
    result.sequences.emplace_back();
    result.sequences.back().sequence = part.sequence;
    result.sequences.back().sampled = part.sample;
    result.sequences.back().token.token = part.sample ? token : 0;
  }
  return result;
}

// (sequence, rows) of a step, in its order.
inline std::vector<std::pair<uint64_t, int64_t>> Shares(const step::Step& step) {
  std::vector<std::pair<uint64_t, int64_t>> shares;
  for (const step::StepSequence& part : step.sequences) {
    shares.emplace_back(part.sequence, static_cast<int64_t>(part.tokens.size()));
  }
  return shares;
}
using Expected = std::vector<std::pair<uint64_t, int64_t>>;

// Publishes and answers until nothing is ready.
inline void RunAll(Scheduler& scheduler) {
  for (auto step = scheduler.Next(); step.has_value(); step = scheduler.Next())
    scheduler.Completed(Answer(*step));
}

}  // namespace sluice::schedule
