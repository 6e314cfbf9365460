// The scheduler under random events, watched by a naive model that knows the rules and nothing of the code.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "schedule/scheduler.h"

namespace sluice::schedule {
namespace {

struct Watched {
  NewSequence request;
  int64_t prompt_published = 0;
  int64_t prompt_done = 0;
  std::vector<int32_t> generated;
  int64_t decodes_published = 0;
  int64_t sampled_in_step = -1;  // the step of its last published sample
  bool admitted = false;
  bool ended = false;
  std::map<size_t, int32_t> pages;  // by their place in the sequence, as steps have named them
  int64_t steps_naming_it = 0;      // in flight
  int64_t steps_waited = 0;         // published without it since it was ready
  int64_t most_running = 0;         // while it waited

  int64_t prompt_size() const { return static_cast<int64_t>(request.prompt.size()); }
  int64_t pages_needed() const { return (prompt_size() + request.max_tokens + 63) / 64; }
  int64_t generated_size() const { return static_cast<int64_t>(generated.size()); }
  bool in_prompt() const { return prompt_published < prompt_size(); }
  bool holds_pages() const { return admitted && (!ended || steps_naming_it > 0); }
  bool finished() const { return prompt_done == prompt_size() && generated_size() == request.max_tokens; }
  int64_t samples_published() const { return in_prompt() ? 0 : 1 + decodes_published; }
  int64_t samples_in_flight() const { return samples_published() - generated_size(); }
  // `step`: the one to be made; `group`: the first of its group; `patient`: would not hold up the pipe.
  int64_t RowsReady(int64_t step, int64_t group, int64_t stages, bool patient) const {
    if (!admitted || ended) return 0;
    if (in_prompt()) {
      const int64_t left = prompt_size() - prompt_published;
      return request.prompt_logprobs ? std::min<int64_t>(left, 256) : left;
    }
    if (samples_published() >= request.max_tokens || samples_in_flight() > 1) return 0;
    if (samples_in_flight() == 0) return 1;
    return sampled_in_step < group && (!patient || sampled_in_step + stages <= step) ? 1 : 0;
  }
};

class Simulation {
 public:
  explicit Simulation(uint32_t seed)
      : random_(seed),
        limits_{.chunk_rows = Pick({1, 2, 3, 7, 64, 300, 2000}),
                .max_running = Pick({1, 2, 5, 20}),
                .pages = Pick({3, 10, 40, 200}),
                .max_steps_in_flight = Pick({1, 2, 4, 8}),
                .stages = Pick({1, 2, 3}),
                .group_steps = Pick({1, 1, 2, 3})},
        scheduler_(limits_) {}

  void Run(int events) {
    for (int event = 0; event < events && !testing::Test::HasFailure(); ++event) {
      const int dice = Int(0, 99);
      if (dice < 12)
        Add();
      else if (dice < 18)
        EndSomeone();
      else if (dice < 60)
        Next();
      else
        Complete();
      CheckCounts();
    }
    Drain();
  }

  int64_t prompt_rows() const { return prompt_rows_; }
  int64_t decode_rows() const { return decode_rows_; }
  int64_t awaited_rows() const { return awaited_rows_; }
  int64_t ended_in_flight() const { return ended_in_flight_; }
  int64_t longest_wait() const { return longest_wait_; }

 private:
  int Int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  int64_t Pick(std::initializer_list<int64_t> values) {
    return *(values.begin() + Int(0, static_cast<int>(values.size()) - 1));
  }

  void Add() {
    NewSequence request;
    request.id = next_id_++;
    const int64_t most = limits_.pages * 64;
    request.max_tokens = std::min<int64_t>(most - 1, Int(0, 3) == 0 ? 0 : Int(1, 30));
    const int64_t longest = std::min<int64_t>(most - request.max_tokens, Pick({1, 5, 70, 600, 3000}));
    request.prompt.resize(static_cast<size_t>(Int(1, static_cast<int>(longest))));
    for (int32_t& token : request.prompt) token = Int(0, 1 << 20);
    request.prompt_logprobs = Int(0, 4) == 0;
    request.return_logits = Int(0, 4) == 0;
    request.sampling.seed = random_();
    scheduler_.Add(request);
    waiting_.push_back(request.id);
    watched_[request.id].request = std::move(request);
  }

  void End(uint64_t id) {
    Watched& w = watched_.at(id);
    if (!w.ended && w.steps_naming_it > 0) ++ended_in_flight_;
    w.ended = true;
    std::erase(waiting_, id);
    scheduler_.End(id);
    EXPECT_EQ(scheduler_.PromptRowsDone(id), -1);
  }

  // A client that leaves, mostly one of the last to come, waiting or running; or an End that comes twice.
  void EndSomeone() {
    if (watched_.empty()) return;
    const int back = Int(1, std::min(8, static_cast<int>(watched_.size())));
    End(std::prev(watched_.end(), back)->first);
  }

  void AdmitAsTheRulesSay() {
    while (!waiting_.empty() && Running() < limits_.max_running) {
      Watched& first = watched_.at(waiting_.front());
      if (first.pages_needed() > FreePages()) return;
      first.admitted = true;
      waiting_.pop_front();
    }
  }

  int64_t Running() const {
    return std::ranges::count_if(watched_,
                                 [](const auto& w) { return w.second.admitted && !w.second.ended; });
  }
  int64_t FreePages() const {
    int64_t free = limits_.pages;
    for (const auto& [id, w] : watched_) free -= w.holds_pages() ? w.pages_needed() : 0;
    return free;
  }

  void CheckCounts() {
    ASSERT_EQ(scheduler_.free_pages(), FreePages());
    ASSERT_EQ(scheduler_.running(), Running());
    ASSERT_EQ(scheduler_.waiting(), static_cast<int64_t>(waiting_.size()));
    ASSERT_EQ(scheduler_.steps_in_flight(), static_cast<int64_t>(flights_.size()));
  }

  std::map<uint64_t, int64_t> Ready(int64_t group) const {
    std::map<uint64_t, int64_t> ready;
    for (const bool patient : {true, false}) {
      for (const auto& [id, w] : watched_) {
        const int64_t rows = w.RowsReady(next_step_, group, limits_.stages, patient);
        if (rows > 0) ready[id] = rows;
      }
      if (!ready.empty()) break;
    }
    return ready;
  }

  int64_t InFlight() const { return static_cast<int64_t>(flights_.size()); }

  void Next() {
    const int64_t begin = next_step_;
    const bool fits = flights_.empty() || InFlight() + limits_.group_steps <= limits_.max_steps_in_flight;
    const auto group = scheduler_.NextGroup();
    ASSERT_TRUE(fits || group.empty());
    ASSERT_LE(static_cast<int64_t>(group.size()), limits_.group_steps);
    for (const step::Step& step : group) ASSERT_NO_FATAL_FAILURE(Check(step, begin));
    if (!fits || static_cast<int64_t>(group.size()) == limits_.group_steps) return;
    AdmitAsTheRulesSay();
    ASSERT_TRUE(Ready(begin).empty() || InFlight() == limits_.max_steps_in_flight)
        << "a row is ready and nothing is published";
  }

  void Check(const step::Step& step, int64_t group) {
    AdmitAsTheRulesSay();
    const std::map<uint64_t, int64_t> ready = Ready(group);
    ASSERT_LT(InFlight(), limits_.max_steps_in_flight);
    ASSERT_FALSE(ready.empty()) << "nothing is ready and a step is published";
    ASSERT_EQ(step.id, next_step_++);
    ASSERT_NO_FATAL_FAILURE(CheckShares(step, ready));
    bool prompts_begun = false;
    for (const step::StepSequence& part : step.sequences) {
      Watched& w = watched_.at(part.sequence);
      prompts_begun = prompts_begun || w.in_prompt();
      ASSERT_EQ(prompts_begun, w.in_prompt()) << "decodes come first";
      ASSERT_NO_FATAL_FAILURE(w.in_prompt() ? CheckPrompt(part, w) : CheckDecode(part, w));
      ASSERT_NO_FATAL_FAILURE(CheckPages(part, w));
      if (part.sample) w.sampled_in_step = step.id;
    }
    ASSERT_NO_FATAL_FAILURE(CheckWaits(step, ready));
    for (const step::StepSequence& part : step.sequences) ++watched_.at(part.sequence).steps_naming_it;
    flights_.push_back(step);
  }

  // Nobody twice, nobody without need, no row left unused, and equal shares for those who want more.
  void CheckShares(const step::Step& step, const std::map<uint64_t, int64_t>& ready) {
    ASSERT_LE(step.rows(), limits_.chunk_rows);
    std::set<uint64_t> served;
    int64_t least_of_hungry = limits_.chunk_rows;
    int64_t most = 0;
    int64_t wanted = 0;
    for (const auto& [id, rows] : ready) wanted += rows;
    for (const step::StepSequence& part : step.sequences) {
      ASSERT_TRUE(served.insert(part.sequence).second);
      ASSERT_TRUE(ready.contains(part.sequence));
      const auto rows = static_cast<int64_t>(part.tokens.size());
      ASSERT_TRUE(rows >= 1 && rows <= ready.at(part.sequence));
      most = std::max(most, rows);
      if (rows < ready.at(part.sequence)) least_of_hungry = std::min(least_of_hungry, rows);
    }
    ASSERT_EQ(step.rows(), std::min(wanted, limits_.chunk_rows));
    ASSERT_LE(most - least_of_hungry, 1);
    ASSERT_EQ(static_cast<int64_t>(served.size()),
              std::min(static_cast<int64_t>(ready.size()), limits_.chunk_rows));
  }

  void CheckPrompt(const step::StepSequence& part, Watched& w) {
    const auto rows = static_cast<int64_t>(part.tokens.size());
    ASSERT_EQ(part.first_position, w.prompt_published);
    const auto begin = w.request.prompt.begin() + w.prompt_published;
    ASSERT_TRUE(std::equal(part.tokens.begin(), part.tokens.end(), begin));
    w.prompt_published += rows;
    prompt_rows_ += rows;
    ASSERT_EQ(part.sample, !w.in_prompt() && w.request.max_tokens > 0);
    ASSERT_EQ(part.prompt_logprobs, w.request.prompt_logprobs);
    ASSERT_EQ(static_cast<int64_t>(part.targets.size()), part.prompt_logprobs ? rows : 0);
    for (size_t row = 0; row < part.targets.size(); ++row) {
      const size_t next = static_cast<size_t>(part.first_position) + row + 1;
      ASSERT_EQ(part.targets[row], next < w.request.prompt.size() ? w.request.prompt[next] : -1);
    }
  }

  void CheckDecode(const step::StepSequence& part, Watched& w) {
    ASSERT_EQ(part.first_position, w.prompt_size() + w.decodes_published);
    if (w.samples_in_flight() == 0) {
      ASSERT_EQ(part.tokens, std::vector<int32_t>{w.generated.back()});
      ASSERT_EQ(part.awaits_step, -1);
    } else {
      ASSERT_EQ(part.tokens, std::vector<int32_t>{step::kAwaitedToken});
      ASSERT_EQ(part.awaits_step, w.sampled_in_step);
      ++awaited_rows_;
    }
    ASSERT_TRUE(part.sample && !part.prompt_logprobs && part.targets.empty());
    ++w.decodes_published;
    ++decode_rows_;
  }

  void CheckPages(const step::StepSequence& part, Watched& w) {
    ASSERT_EQ(part.return_logits, w.request.return_logits);
    ASSERT_EQ(part.sampling, w.request.sampling);
    const auto end = static_cast<int64_t>(part.first_position) + static_cast<int64_t>(part.tokens.size());
    ASSERT_EQ(static_cast<int64_t>(part.pages.size()), (end + 63) / 64);
    for (size_t place = 0; place < part.pages.size(); ++place) {
      const int32_t page = part.pages[place];
      ASSERT_TRUE(page >= 0 && page < limits_.pages);
      ASSERT_EQ(w.pages.try_emplace(place, page).first->second, page) << "a page has moved";
    }
    std::set<int32_t> own;
    for (const auto& [place, page] : w.pages)
      ASSERT_TRUE(own.insert(page).second) << "a page twice in a sequence";
    for (const auto& [id, other] : watched_) {
      if (&other == &w || !other.holds_pages()) continue;
      for (const auto& [place, page] : other.pages) {
        ASSERT_FALSE(own.contains(page)) << "page " << page << " is in use by sequence " << id;
      }
    }
  }

  void CheckWaits(const step::Step& step, const std::map<uint64_t, int64_t>& ready) {
    for (const auto& entry : ready) {
      const uint64_t id = entry.first;
      Watched& w = watched_.at(id);
      w.most_running = std::max(w.most_running, Running());
      const bool served = std::ranges::any_of(
          step.sequences, [&](const step::StepSequence& part) { return part.sequence == id; });
      if (served) {
        w.steps_waited = 0;
        w.most_running = 0;
      } else {
        ASSERT_LE(++w.steps_waited, w.most_running + 1) << "sequence " << id << " starves";
        longest_wait_ = std::max(longest_wait_, w.steps_waited);
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
      Watched& w = watched_.at(part.sequence);
      step::SequenceResult& answer = result.sequences.emplace_back();
      answer.sequence = part.sequence;
      answer.sampled = part.sample;
      if (part.sample) answer.token.token = Int(0, 1 << 20);
      --w.steps_naming_it;
      if (w.ended) continue;
      if (part.first_position < w.prompt_size()) w.prompt_done += static_cast<int64_t>(part.tokens.size());
      if (part.sample) w.generated.push_back(answer.token.token);
    }
    scheduler_.Completed(result);
    for (const step::StepSequence& part : step.sequences) {
      const Watched& w = watched_.at(part.sequence);
      ASSERT_EQ(scheduler_.PromptRowsDone(part.sequence), w.ended ? -1 : w.prompt_done);
      ASSERT_LE(w.generated_size(), w.request.max_tokens);
      // As the engine does: at its length or at a stop token; now and then a finished one stays for a while.
      const bool stops = w.finished() ? Int(0, 3) > 0 : part.sample && Int(0, 30) == 0;
      if (!w.ended && stops) End(part.sequence);
    }
  }

  void Drain() {
    for (int round = 0; round < 100000 && !testing::Test::HasFailure(); ++round) {
      Next();
      Complete();
      for (const auto& [id, w] : watched_) {
        if (!w.ended && w.finished()) End(id);
      }
      CheckCounts();
      if (scheduler_.running() + scheduler_.waiting() + scheduler_.steps_in_flight() == 0) break;
    }
    ASSERT_EQ(scheduler_.free_pages(), limits_.pages);
    ASSERT_EQ(scheduler_.running() + scheduler_.waiting() + scheduler_.steps_in_flight(), 0);
  }

  std::mt19937 random_;
  Limits limits_;
  Scheduler scheduler_;
  std::map<uint64_t, Watched> watched_;  // everyone ever added
  std::deque<uint64_t> waiting_;
  std::deque<step::Step> flights_;
  uint64_t next_id_ = 1;
  int64_t next_step_ = 0;
  int64_t prompt_rows_ = 0;
  int64_t decode_rows_ = 0;
  int64_t awaited_rows_ = 0;
  int64_t ended_in_flight_ = 0;
  int64_t longest_wait_ = 0;
};

TEST(SchedulerSimulation, HundredThousandRandomEvents) {
  int64_t prompt_rows = 0;
  int64_t decode_rows = 0;
  int64_t awaited_rows = 0;
  int64_t ended_in_flight = 0;
  int64_t longest_wait = 0;
  for (uint32_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(seed);
    Simulation simulation(seed);
    simulation.Run(200);
    if (HasFailure()) return;
    prompt_rows += simulation.prompt_rows();
    decode_rows += simulation.decode_rows();
    awaited_rows += simulation.awaited_rows();
    ended_in_flight += simulation.ended_in_flight();
    longest_wait = std::max(longest_wait, simulation.longest_wait());
  }
  // The events have met what the checks are about.
  EXPECT_GT(prompt_rows, 100000);
  EXPECT_GT(decode_rows, 10000);
  EXPECT_GT(awaited_rows, 5000);
  EXPECT_GT(ended_in_flight, 500);
  EXPECT_GT(longest_wait, 5);
}

}  // namespace
}  // namespace sluice::schedule
