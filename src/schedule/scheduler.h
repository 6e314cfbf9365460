#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "schedule/page_keeper.h"
#include "schedule/sequence.h"
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
  bool keeps_prefixes = false;      // pages stay for later prompts that begin alike; --disable-radix-cache
  bool by_priority = false;         // --enable-priority-scheduling
  bool low_values_first = false;    // --schedule-low-priority-values-first
};

// The head makes the log-probabilities of at most this many prompt rows of a sequence in one step.
inline constexpr int64_t kLogprobRows = 256;

// Pages left at an admission for every running sequence that may still need so many: what an answer takes in
// the next two pages' worth of steps.
inline constexpr int64_t kSparePages = 2;

// Turns sequences into steps: admission by reserving the pages of the whole prompt, chunked prefill shared
// fairly between waiting prompts, decodes first. Pure state, no clock, no threads, no I/O.
//
//   Add -> (Next -> publish -> results come back -> Completed)* -> End
//
// Admission (admission.cc). Sequences are admitted by rank: probes, then with by_priority the larger
// priority, then order of arrival. The pages of the whole prompt are taken at once, so a prompt that has
// begun never lacks one; those of the answer as it grows, max_steps_in_flight rows ahead of need. When there
// is none for an answer, the last by rank of those that generate is preempted: it waits again, what it has
// computed stays cached, and it resumes with what is still there by then.
//
// Prefixes. With keeps_prefixes every full page is known by its text from the moment its last row is in a
// published step with known tokens, prompt or answer, and another sequence that begins alike takes it instead
// of computing it: every rank takes steps in the order in which they are published, so the rows are there
// when a later step reads them. At least one row of a prompt is always computed. A sequence whose next page
// is just being computed by a running one waits for it and takes it. With prompt_logprobs nothing is taken:
// the head needs every row.
//
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

  // Rows of the prompt that were cached or that completed steps have computed; -1 for an id that is unknown
  // or ended.
  int64_t PromptRowsDone(uint64_t id) const;
  // How many of them were cached when the sequence was admitted.
  int64_t CachedTokens(uint64_t id) const;
  bool IsRunning(uint64_t id) const;
  // Those not ended whose deadline is at or before `now_ns`, and the earliest deadline of all; 0: none.
  std::vector<uint64_t> Expired(int64_t now_ns) const;
  int64_t NextDeadline() const { return deadlines_.empty() ? 0 : deadlines_.begin()->first; }
  // Forgets every prefix. False, and nothing is forgotten, while there is any sequence, be it one that has
  // ended and is named by a step under way.
  bool Flush();

  // Every page is free, cached (kept for later prompts, given up when needed) or held by a sequence.
  int64_t free_pages() const { return keeper_.free(); }
  int64_t cached_pages() const { return keeper_.cached(); }
  int64_t pages() const { return keeper_.pages(); }
  // Sequences not admitted yet, or preempted; admitted and not ended; steps published and not completed.
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()) + leaving_; }
  int64_t running() const { return static_cast<int64_t>(turns_.size()); }
  int64_t steps_in_flight() const { return static_cast<int64_t>(in_flight_.size()); }

  // Rows to be computed before the waiting ones can sample, less what may be cached; and those of the prompts
  // of all sequences that are not computed yet.
  int64_t waiting_rows() const { return waiting_rows_; }
  int64_t pending_prompt_rows() const;
  int64_t preemptions() const { return preemptions_; }

 private:
  // One sequence's part of a published step.
  struct Part {
    uint64_t id = 0;
    int64_t fill_end = 0;  // of a prompt's part: the position after its last row; 0: a decode row
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

  // admission.cc
  void Wait(Sequence& sequence);
  void StopWaiting(Sequence& sequence);
  void Admit();
  bool TryAdmit(Sequence& sequence);
  bool WaitsForLeader(Sequence& sequence, const std::vector<int32_t>& path);
  void MakeRoomForProbe();
  bool WantsPage(const Sequence& sequence) const;
  // Gives answers their next pages, preempting when there are none. False: somebody lacks one until steps
  // under way are done.
  bool GrowAnswers();
  void Preempt(Sequence& sequence);
  int64_t SparePages() const;
  // Rows of a sequence that the next step could take; 0 when not ready. `hurry`: also one that would hold up
  // the pipe.
  int64_t RowsReady(const Sequence& sequence, bool hurry) const;
  // The grants of the next step in the order of turns, none of them without rows.
  std::vector<Grant> Deal(bool hurry) const;
  std::optional<step::Step> MakeStep();
  void PassTurns(const std::vector<Grant>& grants);
  step::StepSequence MakePrompt(Sequence& sequence, int64_t rows);
  static step::StepSequence MakeDecode(Sequence& sequence);
  void Commit(Sequence& sequence);
  void CheckAnswers(const step::StepResult& result) const;
  // No step names it any more: one that has ended or was preempted gives its pages back.
  void LetGoIfDone(Sequence& sequence);

  Limits limits_;
  PageKeeper keeper_;
  int64_t next_step_id_ = 0;
  int64_t group_begin_ = 0;                 // the first step of the group being made
  std::map<uint64_t, Sequence> sequences_;  // all that are not ended, and those a step in flight still names
  std::set<Sequence::Rank> waiting_;        // by rank
  std::vector<uint64_t> turns_;             // running; the longest without a row first
  std::set<std::pair<int64_t, uint64_t>> deadlines_;  // of those not ended
  std::deque<Flight> in_flight_;
  int64_t leaving_ = 0;
  int64_t waiting_rows_ = 0;
  int64_t preemptions_ = 0;
};

}  // namespace sluice::schedule
