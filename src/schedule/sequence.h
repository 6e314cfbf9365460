#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "schedule/page_keeper.h"
#include "step/step.h"

namespace sluice::schedule {

struct NewSequence {
  uint64_t id = 0;  // never used before, larger than those before
  std::vector<int32_t> prompt;
  int64_t max_tokens = 0;        // 0: prefill only, nothing is sampled
  bool prompt_logprobs = false;  // row i's target is prompt[i + 1], the last row's -1; chunks of kLogprobRows
  ops::SamplingParams sampling;
  bool return_logits = false;  // of every row computed, prompt and answer
  // The caller sets the adjust of every row that samples, from all tokens before it: none is published ahead.
  bool token_by_token = false;
  int64_t priority = 0;         // with Limits::by_priority
  bool probe = false;           // of health: before all others, beside max_running
  int64_t deadline_ns = 0;      // 0: none
  std::string cache_salt = {};  // pages are shared with sequences of the same salt only
};

// What the scheduler knows of a sequence.
struct Sequence {
  enum class State {
    kWaiting,  // holds no pages
    kRunning,
    kLeaving,  // preempted; waits when the steps that name it are done
    kEnded,    // goes away when the steps that name it are done
  };
  // In which order sequences are admitted, and, from the back, preempted.
  struct Rank {
    bool probe = false;
    int64_t priority = 0;  // larger first
    uint64_t id = 0;       // by arrival
    auto operator<=>(const Rank& other) const {
      if (probe != other.probe) return other.probe <=> probe;
      if (priority != other.priority) return other.priority <=> priority;
      return id <=> other.id;
    }
    bool operator==(const Rank&) const = default;
  };

  NewSequence request;  // its prompt is in `tokens`
  Rank rank;
  State state = State::kWaiting;
  std::vector<int32_t> tokens;  // the prompt and the sampled tokens that have come back
  int64_t prompt_size = 0;
  HeldPages held;
  int64_t cached = 0;       // tokens of the prompt that were cached when it was first admitted
  int64_t prompt_done = 0;  // tokens of the prompt that are cached or in completed steps
  // Rows before fill_end are published in chunks: those of the prompt; after a preemption those of the answer
  // so far as well.
  int64_t fill_end = 0;
  int64_t filled = 0;             // of them, cached or in published steps
  int64_t samples_published = 0;  // published rows after which a token is sampled
  int64_t last_sample_step = -1;  // the step of the last of them
  int64_t steps_in_flight = 0;    // published steps that name it
  // While it waits for another that computes a beginning of its prompt: which one, until it has how many
  // pages.
  uint64_t leader = 0;
  int64_t leader_pages = 0;
  // New pages it lacked when it was last tried, and PageKeeper::commits() then.
  int64_t lacked = 0;
  int64_t lacked_at = 0;

  int64_t generated() const { return static_cast<int64_t>(tokens.size()) - prompt_size; }
  int64_t samples_in_flight() const { return samples_published - generated(); }
  bool in_fill() const { return filled < fill_end; }
  bool decodes() const { return !in_fill() && samples_published < request.max_tokens; }
  // All rows it can ever have: the last sampled token has none.
  int64_t most_rows() const { return prompt_size + std::max<int64_t>(0, request.max_tokens - 1); }
  // The position of the next row.
  int64_t next_row() const { return in_fill() ? filled : prompt_size + samples_published - 1; }
  // Rows from the first on that are in published steps and whose tokens are known.
  int64_t rows_known() const {
    return in_fill() ? filled : std::min(prompt_size + generated(), std::max(fill_end, next_row()));
  }
};

}  // namespace sluice::schedule
