#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <random>

#include "engine/offline.h"
#include "schedule/scheduler.h"
#include "short_model.h"
#include "tensor/counter_random.h"

// One answer, whatever the schedule: requests arrive and leave at random, in layouts and chunk sizes drawn at
// random, they find what others have left in the cache, prompts and answers, and lose their pages to others;
// and the logits of every row that any of them computes are those of one rank that computes each request
// alone and whole.
namespace sluice::layouts {
namespace {

constexpr int64_t kPhaseSteps = 125;  // of one layout

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoll(text, nullptr, 10) : otherwise;
}

// A request and what one rank answers to it.
struct Known {
  engine::OfflineRequest request;
  engine::OfflineResult answer;
};

std::unique_ptr<engine::RankSet> Start(const engine::JobSettings& settings, bool fp8, bool processes) {
  engine::ProcessPlan plan;
  plan.program = SLUICE_PROGRAM;
  return processes ? engine::StartProcessRanks(settings, ShortModel(fp8)->fingerprint(), plan)
                   : engine::StartThreadRanks(settings, ShortModel(fp8), {});
}

std::vector<Known> MakePool(bool fp8) {
  engine::JobSettings settings;
  settings.model_path = ShortModelPath(fp8);
  settings.cache_pages = 8;
  engine::OfflineRunner alone(settings, 100000, 1, Start(settings, fp8, false));
  std::vector<Known> pool;
  for (const int64_t tokens : {1, 2, 3, 7, 17, 40, 63, 64, 65, 90, 129, 200}) {
    for (const int64_t max_tokens : {0, 1, 6}) {
      const uint64_t seed = pool.size() + 1;
      Known known;
      for (int64_t i = 0; i < tokens; ++i) {
        const uint64_t hash = SplitMix64(seed * 1000003 + static_cast<uint64_t>(i));
        known.request.prompt.push_back(static_cast<int32_t>(hash % ShortModel(fp8)->config().vocab_size));
      }
      known.request.max_tokens = max_tokens;
      known.request.sampling.temperature = pool.size() % 2 == 0 ? 0.0F : 1.0F;
      known.request.sampling.seed = seed;
      known.request.return_logits = true;
      known.answer = alone.Run({known.request}).front();
      pool.push_back(std::move(known));
    }
  }
  // Answers over more than a page, and who goes on where they end: the pages that he finds were written by
  // decode.
  for (const int64_t tokens : {40, 60, 100}) {
    Known known = pool[static_cast<size_t>(tokens) % pool.size()];
    known.request.prompt.resize(static_cast<size_t>(tokens), 7);
    known.request.max_tokens = 100;
    known.answer = alone.Run({known.request}).front();
    pool.push_back(known);
    known.request.prompt.insert(known.request.prompt.end(), known.answer.tokens.begin(),
                                known.answer.tokens.end());
    known.request.max_tokens = 3;
    known.answer = alone.Run({known.request}).front();
    pool.push_back(std::move(known));
  }
  return pool;
}

const std::vector<Known>& Pool(bool fp8) {
  static const std::vector<Known> exact = MakePool(false);
  static const std::vector<Known> quantised = MakePool(true);
  return fp8 ? quantised : exact;
}

// What the schedules have met, to be sure that the comparison was worth something.
struct Met {
  int64_t steps = 0;
  int64_t rows = 0;
  int64_t awaited_rows = 0;
  int64_t mixed_steps = 0;  // prompt rows and decode rows
  int64_t finished = 0;
  int64_t aborted_waiting = 0;  // without pages
  int64_t aborted_in_flight = 0;
  int64_t pages_used_again = 0;
  int64_t cached_tokens = 0;
  int64_t cached_answer_tokens = 0;  // of them, written by decode
  int64_t preemptions = 0;
};

// One layout and one scheduler. Everything is drawn from the random numbers alone, so a seed is a schedule.
class Phase {
 public:
  Phase(std::mt19937_64& random, int number, Met& met) : random_(random), met_(met) {
    const std::pair<int, int> pipes[] = {{1, 1}, {2, 1}, {3, 1}, {2, 2}, {4, 1}, {1, 2}};  // stages, visits
    const auto [stages, visits] = pipes[number % std::size(pipes)];
    settings_.grid = {stages, Pick({1, 2, 3}), 1, visits};
    settings_.split_mode =
        Pick({0, 1}) == 0 ? parallel::SplitMode::kInterleave : parallel::SplitMode::kZigzag;
    settings_.expert_owners = Pick({0, 1});
    settings_.cache_pages = Pick({4, 6, 12, 30});
    settings_.max_steps_in_flight = Pick({1, 2, 8, 8});
    settings_.wait_limit = std::chrono::seconds(60);
    chunk_rows_ = Pick({1, 3, 16, 16, 50, 300});
    max_running_ = Pick({1, 3, 8});
    most_outstanding_ = max_running_ + 4;
    keeps_prefixes_ = Pick({0, 1, 1}) == 1;
    fp8_ = Pick({0, 0, 1}) == 1;
    processes_ = number % 10 == 3;
    settings_.model_path = ShortModelPath(fp8_);
  }

  std::string name() const {
    return fmt::format("pp{} cp{} v{} {} owners{} {} pages{} flight{} chunk{} running{}{}{}",
                       settings_.grid.stages, settings_.grid.lanes, settings_.grid.virtual_stages,
                       settings_.split_mode == parallel::SplitMode::kInterleave ? "interleave" : "zigzag",
                       settings_.expert_owners, fp8_ ? "fp8" : "f32", settings_.cache_pages,
                       settings_.max_steps_in_flight, chunk_rows_, max_running_,
                       keeps_prefixes_ ? " prefixes" : "", processes_ ? " processes" : "");
  }

  void Run(int64_t steps) {
    schedule::Limits limits = engine::LimitsOf(settings_, chunk_rows_, max_running_);
    limits.keeps_prefixes = keeps_prefixes_;
    schedule::Scheduler scheduler(limits);
    engine::JobEvents events;
    events.on_result = [this](step::StepResult result) {
      std::lock_guard lock(mutex_);
      results_.push_back(std::move(result));
      arrived_.notify_all();
    };
    events.on_end = [this](const std::string& verdict) {
      std::lock_guard lock(mutex_);
      verdict_ = verdict;
      arrived_.notify_all();
    };
    engine::Job job(settings_, Start(settings_, fp8_, processes_), std::move(events));
    int64_t rounds_of_step = 0;
    int64_t last_published = 0;
    while (published_ < steps && !testing::Test::HasFailure()) {
      rounds_of_step = published_ == std::exchange(last_published, published_) ? rounds_of_step + 1 : 0;
      ASSERT_LT(rounds_of_step, 1000) << "nothing is published: pages are lost, or somebody starves";
      while (std::ssize(outstanding_) < most_outstanding_ && Pick({0, 1, 2}) > 0) Add(scheduler);
      AbortSome(scheduler);
      for (int groups = Pick({1, 1, 2, 8}); groups > 0; --groups) Publish(scheduler, job);
      AbortSome(scheduler);
      for (int results = Pick({0, 1, 1, 2, 8}); results > 0; --results) Complete(scheduler);
    }
    while (scheduler.steps_in_flight() > 0 && !testing::Test::HasFailure()) Complete(scheduler);
    while (!outstanding_.empty()) AbortSomeone(scheduler);
    met_.preemptions += scheduler.preemptions();
    EXPECT_TRUE(testing::Test::HasFailure() ||
                scheduler.free_pages() + scheduler.cached_pages() == scheduler.pages())
        << "pages are lost";
  }

 private:
  struct Outstanding {
    const Known* known = nullptr;
    std::vector<int32_t> tokens;  // that have come back
    int64_t steps_in_flight = 0;
    bool begun = false;
    bool ended = false;
  };

  int Pick(std::initializer_list<int> values) { return *(values.begin() + random_() % values.size()); }

  void Add(schedule::Scheduler& scheduler) {
    const std::vector<Known>& pool = Pool(fp8_);
    const Known& known = pool[random_() % pool.size()];
    const engine::OfflineRequest& request = known.request;
    if (request.prompt.size() + request.max_tokens > static_cast<size_t>(settings_.cache_pages) * 64) return;
    scheduler.Add({next_id_, request.prompt, request.max_tokens, false, request.sampling, true});
    outstanding_[next_id_].known = &known;
    known_of_[next_id_++] = &known;
  }

  void AbortSome(schedule::Scheduler& scheduler) {
    for (int left = Pick({0, 0, 0, 0, 1, 3}); left > 0; --left) AbortSomeone(scheduler);
  }

  // The oldest are at work: they are chosen more often than those that wait.
  void AbortSomeone(schedule::Scheduler& scheduler) {
    if (outstanding_.empty()) return;
    const size_t among = Pick({0, 1, 1}) == 0 ? outstanding_.size() : (outstanding_.size() + 2) / 3;
    const auto victim = std::next(outstanding_.begin(), static_cast<int64_t>(random_() % among));
    if (victim->second.steps_in_flight > 0) ++met_.aborted_in_flight;
    if (!victim->second.begun) ++met_.aborted_waiting;
    for (int times = Pick({1, 1, 2}); times > 0; --times) scheduler.End(victim->first);
    outstanding_.erase(victim);
  }

  void Publish(schedule::Scheduler& scheduler, engine::Job& job) {
    const std::vector<step::Step> group = scheduler.NextGroup();
    for (const step::Step& step : group) {
      bool prompt = false;
      bool decode = false;
      for (const step::StepSequence& part : step.sequences) {
        Outstanding& of = outstanding_.at(part.sequence);
        if (!of.begun) {
          met_.cached_tokens += part.first_position;
          if (of.known->request.max_tokens == 3)
            met_.cached_answer_tokens += std::max(0, part.first_position - 100);
        }
        of.begun = true;
        ++of.steps_in_flight;
        met_.awaited_rows += part.awaits_step >= 0 ? 1 : 0;
        const bool in_prompt = part.first_position < std::ssize(of.known->request.prompt);
        prompt = prompt || in_prompt;
        decode = decode || !in_prompt;
        CheckPagesAreFree(part);
        for (const int32_t page : part.pages) {
          const uint64_t before = std::exchange(user_of_page_[page], part.sequence);
          met_.pages_used_again += before != 0 && before != part.sequence ? 1 : 0;
        }
      }
      met_.mixed_steps += prompt && decode ? 1 : 0;
      met_.rows += step.rows();
      flights_.push_back(step);
      ++published_;
      ++met_.steps;
    }
    if (!group.empty()) job.Publish(group);
  }

  // No page that a sequence writes is named for another by steps under way.
  void CheckPagesAreFree(const step::StepSequence& part) const {
    const std::span written(part.pages.begin() + part.first_position / 64, part.pages.end());
    for (const step::Step& step : flights_) {
      for (const step::StepSequence& other : step.sequences) {
        if (other.sequence == part.sequence) continue;
        for (const int32_t page : other.pages) {
          EXPECT_EQ(std::ranges::count(written, page), 0)
              << "page " << page << " of sequence " << other.sequence << ", which step " << step.id
              << " still names, is written by sequence " << part.sequence;
        }
      }
    }
  }

  step::StepResult WaitResult() {
    std::unique_lock lock(mutex_);
    const bool came = arrived_.wait_for(lock, std::chrono::seconds(60),
                                        [this] { return !results_.empty() || !verdict_.empty(); });
    if (!came || results_.empty()) Fail(ErrorKind::kRankLost, "no result came: {}", verdict_);
    step::StepResult result = std::move(results_.front());
    results_.pop_front();
    return result;
  }

  void Complete(schedule::Scheduler& scheduler) {
    if (scheduler.steps_in_flight() == 0) return;
    const step::StepResult result = WaitResult();
    const step::Step step = std::move(flights_.front());
    flights_.pop_front();
    scheduler.Completed(result);
    for (size_t i = 0; i < step.sequences.size(); ++i) {
      const step::StepSequence& part = step.sequences[i];
      CheckLogits(part, result.sequences[i]);
      const auto found = outstanding_.find(part.sequence);
      if (found == outstanding_.end()) continue;
      Outstanding& of = found->second;
      --of.steps_in_flight;
      if (part.sample) of.tokens.push_back(result.sequences[i].token.token);
      const bool prompt_done =
          scheduler.PromptRowsDone(part.sequence) == std::ssize(of.known->request.prompt);
      if (!prompt_done || std::ssize(of.tokens) < of.known->request.max_tokens) continue;
      EXPECT_EQ(of.tokens, of.known->answer.tokens) << "sequence " << part.sequence;
      scheduler.End(part.sequence);
      outstanding_.erase(found);
      ++met_.finished;
    }
  }

  // Of every row, also those of a sequence that was aborted while they were under way.
  void CheckLogits(const step::StepSequence& part, const step::SequenceResult& result) const {
    const std::vector<float>& expected = known_of_.at(part.sequence)->answer.logits;
    const auto vocab = static_cast<size_t>(ShortModel(fp8_)->config().vocab_size);
    ASSERT_EQ(result.logits.size(), part.tokens.size() * vocab);
    const size_t begin = static_cast<size_t>(part.first_position) * vocab;
    ASSERT_LE(begin + result.logits.size(), expected.size());
    ASSERT_EQ(
        std::memcmp(result.logits.data(), expected.data() + begin, result.logits.size() * sizeof(float)), 0)
        << "sequence " << part.sequence << ", " << part.tokens.size() << " rows from " << part.first_position;
  }

  std::mt19937_64& random_;
  Met& met_;
  engine::JobSettings settings_;
  int64_t chunk_rows_ = 0;
  int64_t max_running_ = 0;
  int64_t most_outstanding_ = 0;
  bool fp8_ = false;
  bool processes_ = false;
  bool keeps_prefixes_ = false;

  int64_t published_ = 0;
  uint64_t next_id_ = 1;
  std::map<uint64_t, Outstanding> outstanding_;
  std::map<uint64_t, const Known*> known_of_;  // of all ever added
  std::map<int32_t, uint64_t> user_of_page_;   // the last one
  std::deque<step::Step> flights_;

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<step::StepResult> results_;
  std::string verdict_;
};

TEST(RandomSchedule, ArrivalsChunksAndAbortsGiveTheOneRankBits) {
  const int64_t steps = FromEnvironment("SLUICE_SCHEDULE_STEPS", 1250);
  const int64_t seed = FromEnvironment("SLUICE_SCHEDULE_SEED", 1);
  fmt::print(stderr, "{} steps (SLUICE_SCHEDULE_STEPS), seed {} (SLUICE_SCHEDULE_SEED)\n", steps, seed);
  std::mt19937_64 random(static_cast<uint64_t>(seed));
  Met met;
  for (int number = 0; met.steps < steps; ++number) {
    Phase phase(random, number, met);
    SCOPED_TRACE(fmt::format("phase {}: {}", number, phase.name()));
    phase.Run(std::min(kPhaseSteps, steps - met.steps));
    if (HasFailure()) return;
  }
  fmt::print(
      stderr,
      "{} steps, {} rows, {} awaited; {} mixed steps; {} finished, {} aborted waiting, {} in flight; {} "
      "pages used again; {} tokens cached, {} of answers; {} preempted\n",
      met.steps, met.rows, met.awaited_rows, met.mixed_steps, met.finished, met.aborted_waiting,
      met.aborted_in_flight, met.pages_used_again, met.cached_tokens, met.cached_answer_tokens,
      met.preemptions);
  // The schedules have met what the comparison is about.
  EXPECT_GT(met.awaited_rows, steps / 100);
  EXPECT_GT(met.mixed_steps, steps / 100);
  EXPECT_GT(met.finished, steps / 100);
  EXPECT_GT(met.aborted_waiting, steps / 100);
  EXPECT_GT(met.aborted_in_flight, steps / 100);
  EXPECT_GT(met.pages_used_again, steps / 100);
  EXPECT_GT(met.cached_tokens, steps);
  EXPECT_GT(met.cached_answer_tokens, 0);
}

}  // namespace
}  // namespace sluice::layouts
