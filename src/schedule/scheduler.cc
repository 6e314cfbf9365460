#include "schedule/scheduler.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "base/checked.h"
#include "base/error.h"

namespace sluice::schedule {
namespace {

const Limits& Checked(const Limits& limits) {
  const auto at_least_one = [](std::string_view what, int64_t value) {
    if (value < 1) Fail(ErrorKind::kUsage, "{} is {}; it must be at least 1", what, value);
  };
  at_least_one("--chunked-prefill-size", limits.chunk_rows);
  at_least_one("--max-running-requests", limits.max_running);
  at_least_one("the number of cache pages", limits.pages);
  at_least_one("the number of steps in flight", limits.max_steps_in_flight);
  at_least_one("the number of stages", limits.stages);
  at_least_one("the number of steps published together", limits.group_steps);
  if (limits.prefill_rows != 0) at_least_one("--max-prefill-tokens", limits.prefill_rows);
  if (limits.step_sequences != 0) at_least_one("--pp-max-micro-batch-size", limits.step_sequences);
  constexpr int64_t kMostPages = std::numeric_limits<int32_t>::max();
  if (limits.pages > kMostPages) {
    Fail(ErrorKind::kUsage, "the number of cache pages is {}; it must be at most {}", limits.pages,
         kMostPages);
  }
  return limits;
}

int64_t PagesFor(int64_t tokens) { return CeilDiv(tokens, ops::kPageTokens); }

// Positions first_position..first_position + tokens.size() - 1 of a sequence with these pages.
step::StepSequence Place(const NewSequence& request, const std::vector<int32_t>& pages,
                         int64_t first_position, std::vector<int32_t> tokens) {
  const int64_t end = first_position + static_cast<int64_t>(tokens.size());
  step::StepSequence part;
  part.sequence = request.id;
  part.first_position = static_cast<int32_t>(first_position);
  part.tokens = std::move(tokens);
  part.pages.assign(pages.begin(), pages.begin() + PagesFor(end));
  part.return_logits = request.return_logits;
  part.sampling = request.sampling;
  return part;
}

}  // namespace

int64_t Scheduler::RowsReady(const Sequence& sequence, bool hurry) const {
  if (sequence.ended) return 0;
  if (sequence.in_prompt()) {
    const int64_t left = sequence.prompt_size() - sequence.prompt_published;
    return sequence.request.prompt_logprobs ? std::min(left, kLogprobRows) : left;
  }
  if (sequence.samples_published >= sequence.request.max_tokens) return 0;
  if (sequence.samples_in_flight() == 0) return 1;
  if (sequence.request.token_by_token) return 0;
  // One token ahead and no further: what follows a stop token is computed in vain.
  if (sequence.samples_in_flight() > 1 || sequence.last_sample_step >= group_begin_) return 0;
  return hurry || next_step_id_ - sequence.last_sample_step >= limits_.stages ? 1 : 0;
}

Scheduler::Scheduler(const Limits& limits) : limits_(Checked(limits)), pool_(limits.pages) {}

void Scheduler::Add(NewSequence sequence) {
  SLUICE_CHECK(!sequences_.contains(sequence.id), "sequence {} was added twice", sequence.id);
  const auto prompt = static_cast<int64_t>(sequence.prompt.size());
  if (prompt == 0) Fail(ErrorKind::kBadRequest, "the prompt is empty: at least one token is needed");
  if (sequence.max_tokens < 0) {
    Fail(ErrorKind::kBadRequest, "max_tokens is {}; it must be at least 0", sequence.max_tokens);
  }
  const int64_t most =
      std::min<int64_t>(pool_.pages() * ops::kPageTokens, std::numeric_limits<int32_t>::max());
  if (sequence.max_tokens > most || prompt > most - sequence.max_tokens) {
    Fail(ErrorKind::kBadRequest,
         "the prompt has {} tokens and max_tokens asks for {} more, and the cache holds {} in all: shorten "
         "the "
         "prompt or lower max_tokens",
         prompt, sequence.max_tokens, most);
  }
  const uint64_t id = sequence.id;
  sequences_[id].request = std::move(sequence);
  waiting_.push_back(id);
}

void Scheduler::Admit() {
  while (!waiting_.empty() && running() < limits_.max_running) {
    Sequence& first = sequences_.at(waiting_.front());
    const int64_t pages = PagesFor(first.prompt_size() + first.request.max_tokens);
    if (pages > pool_.free()) return;
    first.pages = pool_.Take(pages);
    turns_.push_back(waiting_.front());
    waiting_.pop_front();
  }
}

std::vector<Scheduler::Grant> Scheduler::Deal(bool hurry) const {
  const int64_t most_sequences =
      limits_.step_sequences > 0 ? std::min(limits_.step_sequences, limits_.chunk_rows) : limits_.chunk_rows;
  int64_t prompt_rows_left = limits_.prefill_rows > 0 ? limits_.prefill_rows : limits_.chunk_rows;
  std::vector<Grant> grants;
  for (const uint64_t id : turns_) {
    if (static_cast<int64_t>(grants.size()) == most_sequences) break;
    const Sequence& sequence = sequences_.at(id);
    const int64_t ready = RowsReady(sequence, hurry);
    if (ready == 0 || (sequence.in_prompt() && prompt_rows_left == 0)) continue;
    if (sequence.in_prompt()) --prompt_rows_left;
    grants.push_back({id, ready, 1});
  }
  // One row each is dealt; equal shares of the rest, again and again until nobody wants more. Only prompts
  // can take more than one.
  int64_t left = std::min(limits_.chunk_rows - static_cast<int64_t>(grants.size()), prompt_rows_left);
  while (left > 0) {
    const int64_t hungry = std::ranges::count_if(grants, [](const Grant& g) { return g.rows < g.ready; });
    if (hungry == 0) break;
    const int64_t share = std::max<int64_t>(1, left / hungry);
    for (Grant& grant : grants) {
      const int64_t more = std::min({share, grant.ready - grant.rows, left});
      grant.rows += more;
      left -= more;
    }
  }
  return grants;
}

void Scheduler::PassTurns(const std::vector<Grant>& grants) {
  std::unordered_set<uint64_t> served;
  for (const Grant& grant : grants) served.insert(grant.id);
  const auto first_served =
      std::stable_partition(turns_.begin(), turns_.end(), [&](uint64_t id) { return !served.contains(id); });
  // Among those served together the turn goes round, or the same one would get every odd row.
  std::rotate(first_served, first_served + 1, turns_.end());
}

step::StepSequence Scheduler::MakePrompt(Sequence& sequence, int64_t rows) {
  const std::vector<int32_t>& prompt = sequence.request.prompt;
  const int64_t begin = sequence.prompt_published;
  const int64_t end = begin + rows;
  step::StepSequence part =
      Place(sequence.request, sequence.pages, begin, {prompt.begin() + begin, prompt.begin() + end});
  part.sample = end == sequence.prompt_size() && sequence.request.max_tokens > 0;
  if (sequence.request.prompt_logprobs) {
    part.prompt_logprobs = true;
    part.targets.assign(prompt.begin() + begin + 1,
                        prompt.begin() + std::min(end + 1, sequence.prompt_size()));
    if (end == sequence.prompt_size()) part.targets.push_back(-1);
  }
  sequence.prompt_published = end;
  return part;
}

step::StepSequence Scheduler::MakeDecode(Sequence& sequence) {
  const bool known = sequence.samples_in_flight() == 0;
  const int64_t position = sequence.prompt_size() + sequence.samples_published - 1;
  step::StepSequence part =
      Place(sequence.request, sequence.pages, position, {known ? sequence.last_token : step::kAwaitedToken});
  if (!known) part.awaits_step = sequence.last_sample_step;
  part.sample = true;
  return part;
}

std::optional<step::Step> Scheduler::Next() {
  group_begin_ = next_step_id_;
  return MakeStep();
}

std::vector<step::Step> Scheduler::NextGroup() {
  std::vector<step::Step> group;
  if (steps_in_flight() > 0 && steps_in_flight() + limits_.group_steps > limits_.max_steps_in_flight)
    return group;
  group_begin_ = next_step_id_;
  while (std::ssize(group) < limits_.group_steps) {
    auto step = MakeStep();
    if (!step.has_value()) break;
    group.push_back(std::move(*step));
  }
  return group;
}

std::optional<step::Step> Scheduler::MakeStep() {
  Admit();
  if (steps_in_flight() >= limits_.max_steps_in_flight) return std::nullopt;
  std::vector<Grant> grants = Deal(/*hurry=*/false);
  if (grants.empty()) grants = Deal(/*hurry=*/true);
  if (grants.empty()) return std::nullopt;

  step::Step step;
  step.id = next_step_id_++;
  step.begins_busy_period = in_flight_.empty();
  Flight flight{step.id, {}};
  const auto publish = [&](uint64_t id, int64_t prompt_rows, step::StepSequence part) {
    Sequence& sequence = sequences_.at(id);
    ++sequence.steps_in_flight;
    if (part.sample) {
      ++sequence.samples_published;
      sequence.last_sample_step = step.id;
    }
    flight.parts.push_back({id, prompt_rows, part.sample});
    step.sequences.push_back(std::move(part));
  };
  std::vector<Grant> prompts;
  for (const Grant& grant : grants) {
    Sequence& sequence = sequences_.at(grant.id);
    if (!sequence.in_prompt()) {
      publish(grant.id, 0, MakeDecode(sequence));
    } else {
      prompts.push_back(grant);
    }
  }
  for (const Grant& grant : prompts) {
    publish(grant.id, grant.rows, MakePrompt(sequences_.at(grant.id), grant.rows));
  }
  in_flight_.push_back(std::move(flight));
  PassTurns(grants);
  return step;
}

void Scheduler::CheckAnswers(const step::StepResult& result) const {
  if (in_flight_.empty() || in_flight_.front().step_id != result.id) {
    Fail(ErrorKind::kRankLost, "the last stage answered step {} out of turn: {}", result.id,
         in_flight_.empty() ? "no step is under way"
                            : fmt::format("step {} is the next to be answered", in_flight_.front().step_id));
  }
  const std::vector<Part>& parts = in_flight_.front().parts;
  if (result.sequences.size() != parts.size()) {
    Fail(ErrorKind::kRankLost, "the last stage answered {} sequences of step {}, which has {}",
         result.sequences.size(), result.id, parts.size());
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const step::SequenceResult& answer = result.sequences[i];
    if (answer.sequence != parts[i].id || answer.sampled != parts[i].sample) {
      Fail(ErrorKind::kRankLost,
           "the last stage answered entry {} of step {} with sequence {} {}, it is sequence {} {}", i,
           result.id, answer.sequence, answer.sampled ? "sampled" : "not sampled", parts[i].id,
           parts[i].sample ? "to be sampled" : "not to be sampled");
    }
  }
}

void Scheduler::Completed(const step::StepResult& result) {
  CheckAnswers(result);
  const Flight flight = std::move(in_flight_.front());
  in_flight_.pop_front();
  for (size_t i = 0; i < flight.parts.size(); ++i) {
    const Part& part = flight.parts[i];
    Sequence& sequence = sequences_.at(part.id);
    --sequence.steps_in_flight;
    if (sequence.ended) {
      FreeIfDone(part.id);
      continue;
    }
    sequence.prompt_done += part.prompt_rows;
    if (part.sample) {
      ++sequence.generated;
      sequence.last_token = result.sequences[i].token.token;
    }
  }
}

void Scheduler::End(uint64_t id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end() || it->second.ended) return;
  it->second.ended = true;
  std::erase(waiting_, id);
  std::erase(turns_, id);
  FreeIfDone(id);
}

void Scheduler::FreeIfDone(uint64_t id) {
  const auto it = sequences_.find(id);
  if (it->second.steps_in_flight > 0) return;
  pool_.Return(it->second.pages);
  sequences_.erase(it);
}

int64_t Scheduler::PromptRowsDone(uint64_t id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() || it->second.ended ? -1 : it->second.prompt_done;
}

}  // namespace sluice::schedule
