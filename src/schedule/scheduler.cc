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

// Positions first_position..first_position + tokens.size() - 1 of a sequence.
step::StepSequence Place(const Sequence& sequence, int64_t first_position, std::vector<int32_t> tokens) {
  const int64_t end = first_position + static_cast<int64_t>(tokens.size());
  const std::vector<int32_t>& pages = sequence.held.table;
  step::StepSequence part;
  part.sequence = sequence.request.id;
  part.first_position = static_cast<int32_t>(first_position);
  part.tokens = std::move(tokens);
  part.pages.assign(pages.begin(), pages.begin() + CeilDiv(end, ops::kPageTokens));
  part.return_logits = sequence.request.return_logits;
  part.sampling = sequence.request.sampling;
  return part;
}

}  // namespace

int64_t Scheduler::RowsReady(const Sequence& sequence, bool hurry) const {
  const int64_t held = std::ssize(sequence.held.table) * ops::kPageTokens;
  if (sequence.in_fill()) {
    const int64_t left = std::min(sequence.fill_end, held) - sequence.filled;
    return sequence.request.prompt_logprobs ? std::min(left, kLogprobRows) : left;
  }
  if (!sequence.decodes() || sequence.next_row() >= held) return 0;
  if (sequence.samples_in_flight() == 0) return 1;
  if (sequence.request.token_by_token) return 0;
  // One token ahead and no further: what follows a stop token is computed in vain.
  if (sequence.samples_in_flight() > 1 || sequence.last_sample_step >= group_begin_) return 0;
  return hurry || next_step_id_ - sequence.last_sample_step >= limits_.stages ? 1 : 0;
}

Scheduler::Scheduler(const Limits& limits)
    : limits_(Checked(limits)), keeper_(limits.pages, limits.keeps_prefixes) {}

void Scheduler::Add(NewSequence sequence) {
  SLUICE_CHECK(!sequences_.contains(sequence.id), "sequence {} was added twice", sequence.id);
  const auto prompt = static_cast<int64_t>(sequence.prompt.size());
  if (prompt == 0) Fail(ErrorKind::kBadRequest, "the prompt is empty: at least one token is needed");
  if (sequence.max_tokens < 0) {
    Fail(ErrorKind::kBadRequest, "max_tokens is {}; it must be at least 0", sequence.max_tokens);
  }
  const int64_t most = std::min<int64_t>(pages() * ops::kPageTokens, std::numeric_limits<int32_t>::max());
  if (sequence.max_tokens > most || prompt > most - sequence.max_tokens) {
    Fail(ErrorKind::kBadRequest,
         "the prompt has {} tokens and max_tokens asks for {} more, and the cache holds {} in all: shorten "
         "the "
         "prompt or lower max_tokens",
         prompt, sequence.max_tokens, most);
  }
  Sequence& added = sequences_[sequence.id];
  const int64_t priority = limits_.low_values_first ? -sequence.priority : sequence.priority;
  added.rank = {sequence.probe, limits_.by_priority ? priority : 0, sequence.id};
  added.tokens = std::move(sequence.prompt);
  added.prompt_size = added.fill_end = prompt;
  added.request = std::move(sequence);
  if (added.request.deadline_ns != 0) deadlines_.emplace(added.request.deadline_ns, added.request.id);
  Wait(added);
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
    if (ready == 0 || (sequence.in_fill() && prompt_rows_left == 0)) continue;
    if (sequence.in_fill()) --prompt_rows_left;
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
  const std::vector<int32_t>& tokens = sequence.tokens;
  const int64_t begin = sequence.filled;
  const int64_t end = begin + rows;
  step::StepSequence part = Place(sequence, begin, {tokens.begin() + begin, tokens.begin() + end});
  part.sample = end == sequence.fill_end && sequence.request.max_tokens > 0;
  if (sequence.request.prompt_logprobs) {
    part.prompt_logprobs = true;
    part.targets.assign(tokens.begin() + begin + 1, tokens.begin() + std::min(end + 1, sequence.prompt_size));
    if (end == sequence.prompt_size) part.targets.push_back(-1);
  }
  sequence.filled = end;
  return part;
}

step::StepSequence Scheduler::MakeDecode(Sequence& sequence) {
  const bool known = sequence.samples_in_flight() == 0;
  step::StepSequence part =
      Place(sequence, sequence.next_row(), {known ? sequence.tokens.back() : step::kAwaitedToken});
  if (!known) part.awaits_step = sequence.last_sample_step;
  part.sample = true;
  return part;
}

void Scheduler::Commit(Sequence& sequence) {
  keeper_.Commit(sequence.held, sequence.request.cache_salt, sequence.tokens,
                 sequence.rows_known() / ops::kPageTokens);
}

std::optional<step::Step> Scheduler::Next() {
  group_begin_ = next_step_id_;
  return MakeStep();
}

std::vector<step::Step> Scheduler::NextGroup() {
  std::vector<step::Step> group;
  Admit();  // also when nothing can be published: who waits then waits for pages or for his turn
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
  const auto publish = [&](Sequence& sequence, step::StepSequence part) {
    const bool decode = !sequence.in_fill() && part.first_position >= sequence.fill_end;
    ++sequence.steps_in_flight;
    if (part.sample) {
      ++sequence.samples_published;
      sequence.last_sample_step = step.id;
    }
    flight.parts.push_back({sequence.request.id, decode ? 0 : sequence.filled, part.sample});
    if (!decode) Commit(sequence);
    step.sequences.push_back(std::move(part));
  };
  std::vector<Grant> prompts;
  for (const Grant& grant : grants) {
    Sequence& sequence = sequences_.at(grant.id);
    if (!sequence.in_fill()) {
      publish(sequence, MakeDecode(sequence));
    } else {
      prompts.push_back(grant);
    }
  }
  for (const Grant& grant : prompts) {
    Sequence& sequence = sequences_.at(grant.id);
    publish(sequence, MakePrompt(sequence, grant.rows));
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
    if (sequence.state != Sequence::State::kEnded) {
      sequence.prompt_done = std::max(sequence.prompt_done, std::min(part.fill_end, sequence.prompt_size));
      if (part.sample) {
        sequence.tokens.push_back(result.sequences[i].token.token);
        Commit(sequence);
      }
    }
    LetGoIfDone(sequence);
  }
}

void Scheduler::End(uint64_t id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end() || it->second.state == Sequence::State::kEnded) return;
  Sequence& sequence = it->second;
  if (sequence.state == Sequence::State::kWaiting) StopWaiting(sequence);
  if (sequence.state == Sequence::State::kLeaving) --leaving_;
  std::erase(turns_, id);
  if (sequence.request.deadline_ns != 0) deadlines_.erase({sequence.request.deadline_ns, id});
  sequence.state = Sequence::State::kEnded;
  LetGoIfDone(sequence);
}

void Scheduler::LetGoIfDone(Sequence& sequence) {
  if (sequence.steps_in_flight > 0) return;
  if (sequence.state == Sequence::State::kEnded) {
    keeper_.Return(sequence.held);
    sequences_.erase(sequence.request.id);
  } else if (sequence.state == Sequence::State::kLeaving) {
    keeper_.Return(sequence.held);
    --leaving_;
    sequence.fill_end = static_cast<int64_t>(sequence.tokens.size());
    sequence.filled = 0;
    Wait(sequence);
  }
}

int64_t Scheduler::PromptRowsDone(uint64_t id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() || it->second.state == Sequence::State::kEnded ? -1 : it->second.prompt_done;
}

int64_t Scheduler::CachedTokens(uint64_t id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? 0 : it->second.cached;
}

bool Scheduler::IsRunning(uint64_t id) const {
  const auto it = sequences_.find(id);
  return it != sequences_.end() && it->second.state == Sequence::State::kRunning;
}

int64_t Scheduler::pending_prompt_rows() const {
  int64_t rows = waiting_rows_;
  for (const uint64_t id : turns_) {
    const Sequence& sequence = sequences_.at(id);
    rows += std::max<int64_t>(0, sequence.fill_end - std::max(sequence.filled, sequence.prompt_done));
    // Published rows are not computed yet.
    rows += std::max<int64_t>(0, std::min(sequence.filled, sequence.prompt_size) - sequence.prompt_done);
  }
  return rows;
}

std::vector<uint64_t> Scheduler::Expired(int64_t now_ns) const {
  std::vector<uint64_t> expired;
  for (const auto& [deadline, id] : deadlines_) {
    if (deadline > now_ns) break;
    expired.push_back(id);
  }
  return expired;
}

bool Scheduler::Flush() {
  if (!sequences_.empty()) return false;
  keeper_.Flush();
  return true;
}

}  // namespace sluice::schedule
