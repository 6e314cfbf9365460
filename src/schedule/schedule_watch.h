#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <vector>

#include "schedule/scheduler.h"
#include "schedule/simulated_cache.h"

// For tests: a naive model of the scheduler, which knows the rules and nothing of the code.
namespace sluice::schedule {

// A sequence as the rules have it.
struct Watched {
  NewSequence request;
  Text text;             // prompt, and every token whose sample is published
  int64_t returned = 0;  // sampled tokens that have come back
  int64_t next = 0;      // the next row
  int64_t fill_end = 0;  // rows before it come in chunks
  int64_t begun = 0;     // times it began at a first row
  int64_t sampled_in_step = -1;
  int64_t steps_naming_it = 0;
  int64_t steps_waited = 0;  // published without it since it was ready
  int64_t most_running = 0;  // while it waited
  int64_t prompt_done = 0;
  bool ended = false;

  int64_t prompt_size() const { return std::ssize(request.prompt); }
  int64_t sampled() const { return text.size() - prompt_size(); }
  bool finished() const { return prompt_done == prompt_size() && returned == request.max_tokens; }
  // Whether step `step` of the group that begins with `group` should have a row of it, if it runs.
  bool Ready(int64_t step, int64_t group, int64_t stages) const {
    if (ended) return false;
    if (begun == 0 || next < fill_end) return true;
    if (sampled() >= request.max_tokens || sampled() - returned > (request.token_by_token ? 0 : 1))
      return false;
    return sampled() == returned || (sampled_in_step < group && sampled_in_step + stages <= step);
  }
};

// What the schedules have met, to be sure that the checks were about something.
struct Met {
  int64_t prompt_rows = 0;
  int64_t decode_rows = 0;
  int64_t awaited_rows = 0;
  int64_t cached_tokens = 0;
  int64_t resumed = 0;
  int64_t refused = 0;
  int64_t expired = 0;
  int64_t probes = 0;
  int64_t ended_in_flight = 0;
  int64_t longest_wait = 0;
};

// Holds every step that is published to the rules. Whoever drives the scheduler keeps what is known of its
// sequences up to date.
class ScheduleWatch {
 public:
  ScheduleWatch(const Limits& limits, const Scheduler& scheduler, Met& met)
      : limits_(limits), scheduler_(scheduler), met_(met), cache_(limits.pages) {}

  std::map<uint64_t, Watched> live;  // not ended, or named by a step in flight
  std::deque<step::Step> flights;
  int64_t next_step = 0;
  bool room_for_probe = false;  // there was, when the group was asked for

  // The next step, of the group that begins with `group`; `running` were admitted before it and are still.
  void Check(const step::Step& step, int64_t group, const std::set<uint64_t>& running) {
    ASSERT_LT(std::ssize(flights), limits_.max_steps_in_flight);
    ASSERT_FALSE(step.sequences.empty());
    ASSERT_EQ(step.id, next_step++);
    ASSERT_LE(step.rows(), limits_.chunk_rows);
    ASSERT_NO_FATAL_FAILURE(CheckWaits(step, group, running));
    bool fills_begun = false;
    std::set<uint64_t> served;
    int64_t most = 0;
    int64_t least_of_hungry = limits_.chunk_rows;
    for (const step::StepSequence& part : step.sequences) {
      Watched& w = live.at(part.sequence);
      ASSERT_FALSE(w.ended);
      ASSERT_TRUE(served.insert(part.sequence).second);
      ASSERT_NO_FATAL_FAILURE(CheckBegin(part, w));
      const bool fill = w.next < w.fill_end;
      fills_begun = fills_begun || fill;
      ASSERT_EQ(fills_begun, fill) << "decodes come first";
      const int64_t ready =
          !fill ? 1 : std::min<int64_t>(w.fill_end - w.next, w.request.prompt_logprobs ? 256 : w.fill_end);
      const int64_t rows = std::ssize(part.tokens);
      ASSERT_TRUE(rows >= 1 && rows <= ready);
      most = std::max(most, rows);
      if (rows < ready) least_of_hungry = std::min(least_of_hungry, rows);
      ASSERT_NO_FATAL_FAILURE(fill ? CheckFill(part, w) : CheckDecode(part, w));
      ASSERT_NO_FATAL_FAILURE(CheckPages(part, w));
      if (part.sample) {
        w.sampled_in_step = step.id;
        // After a preemption the last of the tokens known is fed again.
        if (w.next == w.text.size()) w.text.Append(w.text.SampledAfter(w.next - 1));
      }
      ++w.steps_naming_it;
    }
    // A prompt's last page may be lent to a probe.
    const bool lent = std::ranges::any_of(live, [](const auto& of) { return of.second.request.probe; });
    ASSERT_TRUE(step.rows() == limits_.chunk_rows || least_of_hungry == limits_.chunk_rows || lent)
        << "rows left unused";
    ASSERT_LE(most - least_of_hungry, 1) << "unequal shares";
    flights.push_back(step);
  }

 private:
  // A sequence continues at its next row, or begins, for the first time or after a preemption, behind what is
  // cached.
  void CheckBegin(const step::StepSequence& part, Watched& w) {
    if (w.begun > 0 && part.first_position == w.next) return;
    if (w.begun > 0) {
      ASSERT_GE(w.next, w.fill_end) << "preempted in its prompt";
      ASSERT_EQ(w.returned, w.sampled()) << "resumed before its tokens have come back";
      ASSERT_LT(w.sampled(), w.request.max_tokens);
      ++met_.resumed;
      w.request.prompt_logprobs = false;
    } else {
      ASSERT_EQ(scheduler_.CachedTokens(part.sequence), part.first_position);
      w.prompt_done = part.first_position;
      met_.cached_tokens += part.first_position;
    }
    ++w.begun;
    w.next = part.first_position;
    w.fill_end = w.text.size();
    ASSERT_EQ(w.next % 64, 0) << "a hit ends within a page";
    ASSERT_LT(w.next, w.fill_end) << "no row is left to compute";
    ASSERT_TRUE(w.next == 0 || (limits_.keeps_prefixes && !w.request.prompt_logprobs));
  }

  void CheckFill(const step::StepSequence& part, Watched& w) {
    const auto rows = std::ssize(part.tokens);
    const std::vector<int32_t>& tokens = w.text.tokens();
    ASSERT_EQ(part.first_position, w.next);
    ASSERT_TRUE(std::equal(part.tokens.begin(), part.tokens.end(), tokens.begin() + w.next));
    ASSERT_EQ(part.prompt_logprobs, w.request.prompt_logprobs);
    ASSERT_EQ(std::ssize(part.targets), part.prompt_logprobs ? rows : 0);
    for (int64_t row = 0; row < std::ssize(part.targets); ++row) {
      const int64_t next = w.next + row + 1;
      ASSERT_EQ(part.targets[static_cast<size_t>(row)],
                next < w.prompt_size() ? tokens[static_cast<size_t>(next)] : -1);
    }
    w.next += rows;
    met_.prompt_rows += rows;
    ASSERT_EQ(part.sample, w.next == w.fill_end && w.request.max_tokens > 0);
  }

  void CheckDecode(const step::StepSequence& part, Watched& w) {
    ASSERT_EQ(part.first_position, w.next);
    if (w.sampled() == w.returned) {
      ASSERT_EQ(part.tokens, std::vector<int32_t>{w.text.tokens().back()});
      ASSERT_EQ(part.awaits_step, -1);
    } else {
      ASSERT_FALSE(w.request.token_by_token);
      ASSERT_EQ(part.tokens, std::vector<int32_t>{step::kAwaitedToken});
      ASSERT_EQ(part.awaits_step, w.sampled_in_step);
      ++met_.awaited_rows;
    }
    ASSERT_TRUE(part.sample && !part.prompt_logprobs && part.targets.empty());
    ASSERT_LT(w.sampled(), w.request.max_tokens);
    ++w.next;
    ++met_.decode_rows;
  }

  void CheckPages(const step::StepSequence& part, const Watched& w) {
    ASSERT_EQ(part.return_logits, w.request.return_logits);
    ASSERT_EQ(part.sampling, w.request.sampling);
    ASSERT_NO_FATAL_FAILURE(cache_.Compute(part, w.text));
    const std::set<int32_t> written(part.pages.begin() + part.first_position / 64, part.pages.end());
    for (const step::Step& step : flights) {
      for (const step::StepSequence& other : step.sequences) {
        if (other.sequence == part.sequence) continue;
        for (const int32_t page : other.pages)
          ASSERT_FALSE(written.contains(page)) << "page " << page << " is shared";
      }
    }
  }

  void CheckWaits(const step::Step& step, int64_t group, const std::set<uint64_t>& running) {
    for (auto& [id, w] : live) {
      const uint64_t number = id;
      const bool served =
          std::ranges::any_of(step.sequences, [&](const auto& part) { return part.sequence == number; });
      if (w.request.probe && !w.ended && w.begun == 0 && room_for_probe) {
        ASSERT_TRUE(served || step.rows() == limits_.chunk_rows) << "a probe is not in the next step";
      }
      if (served || !running.contains(id)) {
        w.steps_waited = w.most_running = 0;
      } else if (w.Ready(step.id, group, limits_.stages)) {
        w.most_running = std::max(w.most_running, scheduler_.running());
        ASSERT_LE(++w.steps_waited, w.most_running + 1) << "sequence " << id << " starves";
        met_.longest_wait = std::max(met_.longest_wait, w.steps_waited);
      }
    }
  }

  const Limits limits_;
  const Scheduler& scheduler_;
  Met& met_;
  SimulatedCache cache_;
};

}  // namespace sluice::schedule
