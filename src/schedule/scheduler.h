#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "schedule/page_pool.h"
#include "step/step.h"

namespace sluice::schedule {

struct Limits {
  int64_t chunk_rows = 8192;        // --chunked-prefill-size: rows of one step
  int64_t max_running = 64;         // --max-running-requests: sequences admitted at once
  int64_t pages = 0;                // cache pages of 64 tokens
  int64_t max_steps_in_flight = 8;  // steps published and not yet answered
  int64_t stages = 1;               // of the pipeline: steps that are under way side by side
  int64_t group_steps = 1;          // most steps that are published together (NextGroup)
  int64_t prefill_rows = 0;         // --max-prefill-tokens: prompt rows of one step; 0: as chunk_rows
  int64_t step_sequences = 0;       // --pp-max-micro-batch-size: sequences of one step; 0: any number
};

// The head makes the log-probabilities of at most this many prompt rows of a sequence in one step.
inline constexpr int64_t kLogprobRows = 256;

struct NewSequence {
  uint64_t id = 0;  // never used before
  std::vector<int32_t> prompt;
  int64_t max_tokens = 0;        // 0: prefill only, nothing is sampled
  bool prompt_logprobs = false;  // row i's target is prompt[i + 1], the last row's -1; chunks of kLogprobRows
  ops::SamplingParams sampling;
  bool return_logits = false;  // of every row, prompt and answer
  // The caller sets the adjust of every row that samples, from all tokens before it: none is published ahead.
  bool token_by_token = false;
};

// Turns sequences into steps: admission by reserving pages for prompt and answer, chunked prefill shared
// fairly between waiting prompts, decodes first. Pure state, no clock, no threads, no I/O.
//
//   Add -> (Next -> publish -> results come back -> Completed)* -> End
//
// Rules. Sequences are admitted in order of arrival when all their pages (prompt + max_tokens) are free.
// A step holds at most chunk_rows rows: first one row for every sequence whose next token is known, then the
// prompts' rows: the sequence whose turn it is first, up to an equal share of what is left, shares it does
// not need passing on. Consecutive chunks of one prompt may be in flight together.
//
// A decode row needs the token before it. When that is still being sampled, the row may be published all the
// same, one token ahead: it names the step its token comes from (step::StepSequence::awaits_step), and the
// ranks hand the token over among themselves. A row that awaits a step fewer than `stages` steps back would
// hold up the first stage until the last is done, so it goes into a step only when nothing else is ready. A
// sequence with token_by_token never awaits: its row is made when the token before it has come back.
//
// When more sequences are ready than a step has rows, those longest without a row get one each, decode or
// prompt: a ready sequence never waits longer than running() steps. That holds with step_sequences as well;
// with prefill_rows for prompts among themselves.
//
// The step with the last row of the prompt samples, and so does every decode row, unless max_tokens is 0.
// After max_tokens sampled tokens, or the whole prompt when max_tokens is 0, a sequence has no more rows and
// only waits for End: the caller counts the tokens, and PromptRowsDone equal to the prompt's size tells the
// rest.
class Scheduler {
 public:
  // Throws Error(kUsage), naming the flag, for a limit below 1.
  explicit Scheduler(const Limits& limits);

  // Queues it. Throws Error(kBadRequest) when it could never run: an empty prompt, negative max_tokens, more
  // pages than there are.
  void Add(NewSequence sequence);
  // The next step to publish, or nothing when no row is ready or max_steps_in_flight is reached.
  std::optional<step::Step> Next();
  // Up to group_steps steps whose passes take turns on the virtual stages (Job::Publish); none of them awaits
  // a token of another. Nothing while fewer than group_steps more fit in flight.
  std::vector<step::Step> NextGroup();
  // The result of a published step arrived; results come in the order of the steps. Sequences ended meanwhile
  // are passed over. A result that does not answer the oldest step in flight is an Error(kRankLost) and
  // changes nothing.
  void Completed(const step::StepResult& result);
  // The sequence gets no further rows (it met a stop token, its length, or its client left). Its pages are
  // free again once every published step that names it has completed. An unknown or ended id is passed over.
  void End(uint64_t id);

  // Rows of the prompt that completed steps have computed; -1 for an id that is unknown or ended.
  int64_t PromptRowsDone(uint64_t id) const;
  int64_t free_pages() const { return pool_.free(); }
  int64_t pages() const { return pool_.pages(); }
  // Sequences not admitted yet; admitted and not ended; steps published and not completed.
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t running() const { return static_cast<int64_t>(turns_.size()); }
  int64_t steps_in_flight() const { return static_cast<int64_t>(in_flight_.size()); }

 private:
  struct Sequence {
    NewSequence request;
    std::vector<int32_t> pages;     // empty until admitted
    int64_t prompt_published = 0;   // prompt rows in published steps
    int64_t prompt_done = 0;        // prompt rows in completed steps
    int64_t samples_published = 0;  // published rows after which a token is sampled
    int64_t last_sample_step = -1;  // the step of the last of them
    int64_t generated = 0;          // sampled tokens that have come back
    int32_t last_token = 0;         // the last of them
    int64_t steps_in_flight = 0;    // published steps that name it
    bool ended = false;

    int64_t prompt_size() const { return static_cast<int64_t>(request.prompt.size()); }
    int64_t samples_in_flight() const { return samples_published - generated; }
    bool in_prompt() const { return prompt_published < prompt_size(); }
  };
  // One sequence's part of a published step.
  struct Part {
    uint64_t id = 0;
    int64_t prompt_rows = 0;
    bool sample = false;
  };
  struct Flight {
    int64_t step_id = 0;
    std::vector<Part> parts;
  };
  // Rows a sequence gets in the step being made.
  struct Grant {
    uint64_t id = 0;
    int64_t ready = 0;
    int64_t rows = 0;
  };

  void Admit();
  // Rows of a sequence that the next step could take; 0 when not ready. `hurry`: also one that would hold up
  // the pipe.
  int64_t RowsReady(const Sequence& sequence, bool hurry) const;
  // The grants of the next step in the order of turns, none of them without rows.
  std::vector<Grant> Deal(bool hurry) const;
  std::optional<step::Step> MakeStep();
  void PassTurns(const std::vector<Grant>& grants);
  static step::StepSequence MakePrompt(Sequence& sequence, int64_t rows);
  static step::StepSequence MakeDecode(Sequence& sequence);
  void CheckAnswers(const step::StepResult& result) const;
  void FreeIfDone(uint64_t id);

  Limits limits_;
  PagePool pool_;
  int64_t next_step_id_ = 0;
  int64_t group_begin_ = 0;                 // the first step of the group being made
  std::map<uint64_t, Sequence> sequences_;  // waiting, running, and ended but still named by a step in flight
  std::deque<uint64_t> waiting_;            // by arrival
  std::vector<uint64_t> turns_;             // running; the longest without a row first
  std::deque<Flight> in_flight_;
};

}  // namespace sluice::schedule
