// The scheduler under random events, watched by a naive model (schedule_watch.h) and a cache that holds what
// steps write into it; the clock counts events.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <random>
#include <set>

#include "schedule/queue_bound.h"
#include "schedule/schedule_watch.h"
#include "schedule/scheduler.h"

namespace sluice::schedule {
namespace {

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
        watch_(limits_, scheduler_, met) {}

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
    Watched& w = watch_.live[request.id];
    w.text = Text(std::hash<std::string>{}(request.cache_salt), request.sampling.seed);
    for (const int32_t token : request.prompt) w.text.Append(token);
    w.fill_end = w.text.size();
    w.request = std::move(request);
    met_.probes += w.request.probe ? 1 : 0;
  }

  void End(uint64_t id) {
    Watched& w = watch_.live.at(id);
    if (!w.ended && w.steps_naming_it > 0) ++met_.ended_in_flight;
    if (!w.ended) texts_.push_back(w.text.tokens());
    if (texts_.size() > 10) texts_.pop_front();
    w.ended = true;
    scheduler_.End(id);
    EXPECT_EQ(scheduler_.PromptRowsDone(id), -1);
    if (w.steps_naming_it == 0) watch_.live.erase(id);
  }

  // A client that leaves, waiting or running; or an End that comes twice.
  void EndSomeone() {
    if (watch_.live.empty()) return;
    End(std::next(watch_.live.begin(), Int(0, static_cast<int>(watch_.live.size()) - 1))->first);
  }

  void EndExpired() {
    std::vector<uint64_t> expected;
    int64_t earliest = 0;
    for (const auto& [id, w] : watch_.live) {
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
    return std::ranges::count_if(watch_.live, [](const auto& of) { return !of.second.ended; });
  }
  int64_t InFlight() const { return std::ssize(watch_.flights); }

  void CheckCounts() {
    ASSERT_EQ(scheduler_.running() + scheduler_.waiting(), Living());
    ASSERT_EQ(scheduler_.steps_in_flight(), InFlight());
    const int64_t probes =
        std::ranges::count_if(watch_.live, [](const auto& of) { return of.second.request.probe; });
    ASSERT_LE(scheduler_.running(), limits_.max_running + probes);
    ASSERT_LE(scheduler_.waiting(), bound_.requests + limits_.max_running + probes) << "the queue grows";
    std::set<int32_t> named;
    for (const step::Step& step : watch_.flights) {
      for (const step::StepSequence& part : step.sequences)
        named.insert(part.pages.begin(), part.pages.end());
    }
    ASSERT_LE(scheduler_.free_pages() + scheduler_.cached_pages() + std::ssize(named), limits_.pages)
        << "a page that a step under way names can be given away";
    if (watch_.live.empty()) {
      ASSERT_EQ(scheduler_.free_pages() + scheduler_.cached_pages(), limits_.pages) << "pages are lost";
    }
    if (!limits_.keeps_prefixes) {
      ASSERT_EQ(scheduler_.cached_pages(), 0);
    }
  }

  void Next() {
    const int64_t begin = watch_.next_step;
    const bool fits =
        watch_.flights.empty() || InFlight() + limits_.group_steps <= limits_.max_steps_in_flight;
    std::set<uint64_t> running;  // before and after: those admitted meanwhile come to the end of the turns
    for (const auto& [id, w] : watch_.live) {
      if (scheduler_.IsRunning(id)) running.insert(id);
    }
    // Where no page is free or cached for it, it may have to wait for a step that is under way.
    watch_.room_for_probe = scheduler_.free_pages() + scheduler_.cached_pages() > 2 * std::ssize(watch_.live);
    const auto group = scheduler_.NextGroup();
    std::erase_if(running, [&](uint64_t id) { return !scheduler_.IsRunning(id); });
    ASSERT_TRUE(fits || group.empty());
    ASSERT_LE(std::ssize(group), limits_.group_steps);
    for (const step::Step& step : group) ASSERT_NO_FATAL_FAILURE(watch_.Check(step, begin, running));
    if (!watch_.flights.empty()) return;
    // Nothing is under way and nothing is published: nobody can be waiting for a row.
    ASSERT_TRUE(scheduler_.running() > 0 || scheduler_.waiting() == 0) << "nobody is admitted";
    for (const auto& [id, w] : watch_.live) {
      ASSERT_FALSE(scheduler_.IsRunning(id) && w.Ready(watch_.next_step, watch_.next_step, 0))
          << "sequence " << id << " is ready";
    }
  }

  void Complete() {
    if (watch_.flights.empty()) return;
    const step::Step step = std::move(watch_.flights.front());
    watch_.flights.pop_front();
    step::StepResult result;
    result.id = step.id;
    for (const step::StepSequence& part : step.sequences) {
      Watched& w = watch_.live.at(part.sequence);
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
      const Watched& w = watch_.live.at(id);
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
      for (const auto& [id, w] : watch_.live) {
        if (!w.ended && w.finished()) finished.push_back(id);
      }
      for (const uint64_t id : finished) End(id);
      CheckCounts();
      if (watch_.live.empty()) break;
    }
    ASSERT_TRUE(watch_.live.empty());
    ASSERT_TRUE(scheduler_.Flush());
    ASSERT_EQ(scheduler_.free_pages(), limits_.pages);
  }

  std::mt19937 random_;
  Met& met_;
  Limits limits_;
  QueueBound bound_;
  Scheduler scheduler_;
  ScheduleWatch watch_;
  std::deque<std::vector<int32_t>> texts_;  // of the last that have ended
  int64_t now_ = 1;
  uint64_t next_id_ = 1;
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
