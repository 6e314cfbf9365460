// The scheduler under random events, watched by a naive model that knows the rules and nothing of the code: a
// cache that holds what steps write into it, texts whose rows depend on every token before them, and a clock
// that counts events.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "schedule/queue_bound.h"
#include "schedule/scheduler.h"
#include "schedule/simulated_cache.h"

namespace sluice::schedule {
namespace {

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

class Simulation {
 public:
  Simulation(uint32_t seed, Met& met)
      : random_(seed),
        met_(met),
        limits_{.chunk_rows = Pick({1, 7, 64, 300, 2000}),
                .max_running = Pick({1, 2, 5, 20}),
                .pages = Pick({3, 6, 10, 40, 200}),
                .max_steps_in_flight = Pick({1, 2, 4, 8}),
                .stages = Pick({1, 2, 3}),
                .group_steps = Pick({1, 1, 2, 3}),
                .keeps_prefixes = Pick({0, 1, 1}) == 1,
                .by_priority = Pick({0, 1}) == 1},
        bound_{Pick({2, 10, 100}), Pick({1000, 20000})},
        scheduler_(limits_),
        cache_(limits_.pages) {}

  void Run(int events) {
    for (; now_ <= events && !testing::Test::HasFailure(); ++now_) {
      const int dice = Int(0, 99);
      if (dice < 9)
        Add();
      else if (dice < 10)
        EndSomeone();
      else if (dice < 54)
        Next();
      else
        Complete();
      EndExpired();
      CheckCounts();
    }
    Drain();
  }

 private:
  int Int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  int64_t Pick(std::initializer_list<int64_t> values) {
    return *(values.begin() + Int(0, static_cast<int>(values.size()) - 1));
  }

  // Few different tokens, and beginnings of texts that were there before, answers and all.
  std::vector<int32_t> MakePrompt(int64_t longest) {
    int64_t size = Int(1, static_cast<int>(longest));
    std::vector<int32_t> prompt;
    if (!texts_.empty() && Int(0, 3) > 0) {
      prompt = texts_[static_cast<size_t>(Int(0, static_cast<int>(texts_.size()) - 1))];
      prompt.resize(std::min<size_t>(prompt.size(), static_cast<size_t>(Pick({size, longest, longest}))));
      size = std::min(longest, std::ssize(prompt) + Int(0, 40));
    }
    while (std::ssize(prompt) < size) prompt.push_back(Int(0, 2));
    return prompt;
  }

  void Add() {
    NewSequence request;
    request.id = next_id_++;
    const int64_t most = limits_.pages * 64;
    request.probe = Int(0, 29) == 0;
    request.max_tokens =
        request.probe ? 1 : std::min<int64_t>(most - 1, Int(0, 3) == 0 ? 0 : Pick({1, 5, 30, 300, 300}));
    request.prompt =
        request.probe
            ? std::vector<int32_t>{1}
            : MakePrompt(std::min<int64_t>(most - request.max_tokens, Pick({5, 70, 200, 600, 3000})));
    request.prompt_logprobs = Int(0, 9) == 0;
    request.return_logits = Int(0, 4) == 0;
    request.sampling.seed = random_() % 2;
    request.token_by_token = Int(0, 9) == 0;
    request.priority = Int(-1, 1);
    request.cache_salt = Int(0, 4) == 0 ? "salt" : "";
    if (Int(0, 9) == 0) request.deadline_ns = now_ + Int(1, 200);
    if (!request.probe &&
        !(bound_.HasRequestRoom(scheduler_.waiting()) &&
          bound_.HasTokenRoom(scheduler_.waiting(), scheduler_.waiting_rows(), std::ssize(request.prompt)))) {
      ++met_.refused;
      return;
    }
    scheduler_.Add(request);
    Watched& w = live_[request.id];
    w.text = Text(std::hash<std::string>{}(request.cache_salt), request.sampling.seed);
    for (const int32_t token : request.prompt) w.text.Append(token);
    w.fill_end = w.text.size();
    w.request = std::move(request);
    met_.probes += w.request.probe ? 1 : 0;
  }

  void End(uint64_t id) {
    Watched& w = live_.at(id);
    if (!w.ended && w.steps_naming_it > 0) ++met_.ended_in_flight;
    if (!w.ended) texts_.push_back(w.text.tokens());
    if (texts_.size() > 10) texts_.pop_front();
    w.ended = true;
    scheduler_.End(id);
    EXPECT_EQ(scheduler_.PromptRowsDone(id), -1);
    if (w.steps_naming_it == 0) live_.erase(id);
  }

  // A client that leaves, waiting or running; or an End that comes twice.
  void EndSomeone() {
    if (live_.empty()) return;
    End(std::next(live_.begin(), Int(0, static_cast<int>(live_.size()) - 1))->first);
  }

  void EndExpired() {
    std::vector<uint64_t> expected;
    int64_t earliest = 0;
    for (const auto& [id, w] : live_) {
      const int64_t deadline = w.request.deadline_ns;
      if (w.ended || deadline == 0) continue;
      if (deadline <= now_) expected.push_back(id);
      if (earliest == 0 || deadline < earliest) earliest = deadline;
    }
    ASSERT_EQ(scheduler_.NextDeadline(), earliest);
    std::vector<uint64_t> expired = scheduler_.Expired(now_);
    std::ranges::sort(expired);
    ASSERT_EQ(expired, expected);
    met_.expired += std::ssize(expired);
    for (const uint64_t id : expired) End(id);
  }

  int64_t Living() const {
    return std::ranges::count_if(live_, [](const auto& of) { return !of.second.ended; });
  }
  int64_t InFlight() const { return std::ssize(flights_); }

  void CheckCounts() {
    ASSERT_EQ(scheduler_.running() + scheduler_.waiting(), Living());
    ASSERT_EQ(scheduler_.steps_in_flight(), InFlight());
    const int64_t probes =
        std::ranges::count_if(live_, [](const auto& of) { return of.second.request.probe; });
    ASSERT_LE(scheduler_.running(), limits_.max_running + probes);
    ASSERT_LE(scheduler_.waiting(), bound_.requests + limits_.max_running + probes) << "the queue grows";
    std::set<int32_t> named;
    for (const step::Step& step : flights_) {
      for (const step::StepSequence& part : step.sequences)
        named.insert(part.pages.begin(), part.pages.end());
    }
    ASSERT_LE(scheduler_.free_pages() + scheduler_.cached_pages() + std::ssize(named), limits_.pages)
        << "a page that a step under way names can be given away";
    if (live_.empty()) {
      ASSERT_EQ(scheduler_.free_pages() + scheduler_.cached_pages(), limits_.pages) << "pages are lost";
    }
    if (!limits_.keeps_prefixes) {
      ASSERT_EQ(scheduler_.cached_pages(), 0);
    }
  }

  void Next() {
    const int64_t begin = next_step_;
    const bool fits = flights_.empty() || InFlight() + limits_.group_steps <= limits_.max_steps_in_flight;
    std::set<uint64_t> running;  // before and after: those admitted meanwhile come to the end of the turns
    for (const auto& [id, w] : live_) {
      if (scheduler_.IsRunning(id)) running.insert(id);
    }
    // Where no page is free or cached for it, it may have to wait for a step that is under way.
    room_for_probe_ = scheduler_.free_pages() + scheduler_.cached_pages() > 2 * std::ssize(live_);
    const auto group = scheduler_.NextGroup();
    std::erase_if(running, [&](uint64_t id) { return !scheduler_.IsRunning(id); });
    ASSERT_TRUE(fits || group.empty());
    ASSERT_LE(std::ssize(group), limits_.group_steps);
    for (const step::Step& step : group) ASSERT_NO_FATAL_FAILURE(Check(step, begin, running));
    if (!flights_.empty()) return;
    // Nothing is under way and nothing is published: nobody can be waiting for a row.
    ASSERT_TRUE(scheduler_.running() > 0 || scheduler_.waiting() == 0) << "nobody is admitted";
    for (const auto& [id, w] : live_) {
      ASSERT_FALSE(scheduler_.IsRunning(id) && w.Ready(next_step_, next_step_, 0))
          << "sequence " << id << " is ready";
    }
  }

  void Check(const step::Step& step, int64_t group, const std::set<uint64_t>& running) {
    ASSERT_LT(InFlight(), limits_.max_steps_in_flight);
    ASSERT_FALSE(step.sequences.empty());
    ASSERT_EQ(step.id, next_step_++);
    ASSERT_LE(step.rows(), limits_.chunk_rows);
    ASSERT_NO_FATAL_FAILURE(CheckWaits(step, group, running));
    bool fills_begun = false;
    std::set<uint64_t> served;
    int64_t most = 0;
    int64_t least_of_hungry = limits_.chunk_rows;
    for (const step::StepSequence& part : step.sequences) {
      Watched& w = live_.at(part.sequence);
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
    const bool lent = std::ranges::any_of(live_, [](const auto& of) { return of.second.request.probe; });
    ASSERT_TRUE(step.rows() == limits_.chunk_rows || least_of_hungry == limits_.chunk_rows || lent)
        << "rows left unused";
    ASSERT_LE(most - least_of_hungry, 1) << "unequal shares";
    flights_.push_back(step);
  }

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
    for (const step::Step& step : flights_) {
      for (const step::StepSequence& other : step.sequences) {
        if (other.sequence == part.sequence) continue;
        for (const int32_t page : other.pages)
          ASSERT_FALSE(written.contains(page)) << "page " << page << " is shared";
      }
    }
  }

  void CheckWaits(const step::Step& step, int64_t group, const std::set<uint64_t>& running) {
    for (auto& [id, w] : live_) {
      const uint64_t number = id;
      const bool served =
          std::ranges::any_of(step.sequences, [&](const auto& part) { return part.sequence == number; });
      if (w.request.probe && !w.ended && w.begun == 0 && room_for_probe_) {
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

  void Complete() {
    if (flights_.empty()) return;
    const step::Step step = std::move(flights_.front());
    flights_.pop_front();
    step::StepResult result;
    result.id = step.id;
    for (const step::StepSequence& part : step.sequences) {
      Watched& w = live_.at(part.sequence);
      step::SequenceResult& answer = result.sequences.emplace_back();
      answer.sequence = part.sequence;
      answer.sampled = part.sample;
      const int64_t last = part.first_position + std::ssize(part.tokens) - 1;
      if (part.sample) answer.token.token = w.text.SampledAfter(last);
      --w.steps_naming_it;
      if (w.ended) continue;
      w.prompt_done = std::max(w.prompt_done, std::min(last + 1, w.prompt_size()));
      if (part.sample) ++w.returned;
    }
    scheduler_.Completed(result);
    for (const step::StepSequence& part : step.sequences) {
      const uint64_t id = part.sequence;
      const Watched& w = live_.at(id);
      ASSERT_EQ(scheduler_.PromptRowsDone(id), w.ended ? -1 : w.prompt_done);
      ASSERT_LE(w.returned, w.request.max_tokens);
      // As the engine does: at its length or at a stop token; now and then a finished one stays for a while.
      const bool stops = w.finished() ? w.request.probe || Int(0, 15) > 0 : part.sample && Int(0, 200) == 0;
      if (w.ended ? w.steps_naming_it == 0 : stops) End(id);
    }
  }

  void Drain() {
    for (int round = 0; round < 100000 && !testing::Test::HasFailure(); ++round) {
      Next();
      Complete();
      std::vector<uint64_t> finished;
      for (const auto& [id, w] : live_) {
        if (!w.ended && w.finished()) finished.push_back(id);
      }
      for (const uint64_t id : finished) End(id);
      CheckCounts();
      if (live_.empty()) break;
    }
    ASSERT_TRUE(live_.empty());
    ASSERT_TRUE(scheduler_.Flush());
    ASSERT_EQ(scheduler_.free_pages(), limits_.pages);
  }

  std::mt19937 random_;
  Met& met_;
  Limits limits_;
  QueueBound bound_;
  Scheduler scheduler_;
  SimulatedCache cache_;
  std::map<uint64_t, Watched> live_;        // not ended, or named by a step in flight
  std::deque<std::vector<int32_t>> texts_;  // of the last that have ended
  std::deque<step::Step> flights_;
  bool room_for_probe_ = false;
  int64_t now_ = 1;
  uint64_t next_id_ = 1;
  int64_t next_step_ = 0;
};

TEST(SchedulerSimulation, RandomEventsLosePagesNeitherNorPatienceNorBits) {
  const char* text = std::getenv("SLUICE_SCHEDULE_EVENTS");
  const int64_t events = text != nullptr ? std::strtoll(text, nullptr, 10) : 50000;
  constexpr int kEventsEach = 1000;
  Met met;
  for (int64_t seed = 0; seed * kEventsEach < events; ++seed) {
    SCOPED_TRACE(seed);
    Simulation(static_cast<uint32_t>(seed), met).Run(kEventsEach);
    if (HasFailure()) return;
  }
  fmt::print(
      stderr,
      "{} events: {} prompt rows, {} decode rows, {} awaited, {} tokens cached, {} resumed, {} refused, {} "
      "expired, {} probes, {} ended in flight, longest wait {} steps\n",
      events, met.prompt_rows, met.decode_rows, met.awaited_rows, met.cached_tokens, met.resumed, met.refused,
      met.expired, met.probes, met.ended_in_flight, met.longest_wait);
  // The events have met what the checks are about.
  EXPECT_GT(met.prompt_rows, events);
  EXPECT_GT(met.decode_rows, events / 10);
  EXPECT_GT(met.awaited_rows, events / 20);
  EXPECT_GT(met.cached_tokens, events / 10);
  EXPECT_GT(met.resumed, events / 5000);
  EXPECT_GT(met.refused, events / 1000);
  EXPECT_GT(met.expired, events / 1000);
  EXPECT_GT(met.probes, events / 1000);
  EXPECT_GT(met.ended_in_flight, events / 1000);
  EXPECT_GT(met.longest_wait, 5);
}

}  // namespace
}  // namespace sluice::schedule
