// The scheduler's decisions about pages: who is admitted, who grows, who is preempted.
#include <algorithm>
#include <utility>

#include "base/checked.h"
#include "schedule/scheduler.h"

namespace sluice::schedule {
namespace {

int64_t PagesFor(int64_t tokens) { return CeilDiv(tokens, ops::kPageTokens); }

// Pages of a prompt that may be taken from the cache: full ones, and one row is left to compute.
int64_t MostHits(const Sequence& sequence) {
  return sequence.request.prompt_logprobs ? 0 : (sequence.fill_end - 1) / ops::kPageTokens;
}

std::span<const int32_t> PageTokens(const Sequence& sequence, int64_t page) {
  return std::span(sequence.tokens).subspan(static_cast<size_t>(page * ops::kPageTokens), ops::kPageTokens);
}

}  // namespace

void Scheduler::Wait(Sequence& sequence) {
  sequence.state = Sequence::State::kWaiting;
  sequence.leader = 0;
  sequence.lacked = 0;
  waiting_rows_ += sequence.fill_end;
  waiting_.insert(sequence.rank);
}

void Scheduler::StopWaiting(Sequence& sequence) {
  waiting_rows_ -= sequence.fill_end;
  waiting_.erase(sequence.rank);
}

// A beginning that a running sequence is about to compute is waited for, if it is a page longer than what is
// cached. As it is the first by rank of those that begin alike that computes, nobody waits in a circle.
bool Scheduler::WaitsForLeader(Sequence& sequence, const std::vector<int32_t>& path) {
  const int64_t next = std::ssize(path);
  const int64_t most = MostHits(sequence);
  sequence.leader = 0;
  if (next >= most) return false;
  for (const uint64_t id : turns_) {
    const Sequence& other = sequences_.at(id);
    const auto has = [&](int64_t page) {
      return (page + 1) * ops::kPageTokens <= other.fill_end &&
             std::ranges::equal(PageTokens(other, page), PageTokens(sequence, page));
    };
    if (!other.in_fill() || other.held.sealed || other.held.path != path) continue;
    if (other.request.cache_salt != sequence.request.cache_salt || !has(next)) continue;
    sequence.leader = id;
    sequence.leader_pages = next + 1;
    while (sequence.leader_pages < most && has(sequence.leader_pages)) ++sequence.leader_pages;
    return true;
  }
  return false;
}

int64_t Scheduler::SparePages() const {
  int64_t spare = 0;
  for (const uint64_t id : turns_) {
    const Sequence& sequence = sequences_.at(id);
    spare +=
        std::clamp<int64_t>(PagesFor(sequence.most_rows()) - std::ssize(sequence.held.table), 0, kSparePages);
  }
  return spare;
}

bool Scheduler::TryAdmit(Sequence& sequence) {
  // Every page committed since the last attempt may have become a hit.
  if (keeper_.available() + keeper_.commits() - sequence.lacked_at < sequence.lacked) return false;
  std::vector<int32_t> path = keeper_.Find(sequence.request.cache_salt, sequence.tokens, MostHits(sequence));
  if (keeper_.keeps_prefixes() && WaitsForLeader(sequence, path)) return false;
  const auto hits = std::ssize(path);
  const int64_t count = PagesFor(std::max(
      sequence.fill_end, std::min(sequence.fill_end + limits_.max_steps_in_flight, sequence.most_rows())));
  const int64_t spare = sequence.request.probe ? 0 : SparePages();
  if (!keeper_.Start(sequence.held, std::move(path), count, spare)) {
    sequence.lacked = count - hits;
    sequence.lacked_at = keeper_.commits();
    return false;
  }
  StopWaiting(sequence);
  sequence.state = Sequence::State::kRunning;
  sequence.filled = hits * ops::kPageTokens;
  if (sequence.fill_end == sequence.prompt_size && sequence.prompt_done == 0) {
    sequence.cached = sequence.prompt_done = sequence.filled;
  }
  turns_.insert(sequence.request.probe ? turns_.begin() : turns_.end(), sequence.request.id);
  return true;
}

void Scheduler::Admit() {
  const bool answers_grow = GrowAnswers();
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    Sequence& sequence = sequences_.at((next++)->id);
    const bool probe = sequence.request.probe;
    if (!probe && (!answers_grow || running() >= limits_.max_running)) return;
    const auto leader = sequence.leader == 0 ? sequences_.end() : sequences_.find(sequence.leader);
    if (leader != sequences_.end() && leader->second.state == Sequence::State::kRunning &&
        leader->second.in_fill() && !leader->second.held.sealed &&
        std::ssize(leader->second.held.path) < sequence.leader_pages) {
      continue;
    }
    if (TryAdmit(sequence) || sequence.leader != 0) continue;
    if (!probe) return;
    MakeRoomForProbe();
    if (!TryAdmit(sequence)) return;
  }
}

// A prompt's last page is lent while nothing is written in it; without one somebody is preempted, and the
// probe is admitted when the steps that name that one are done.
void Scheduler::MakeRoomForProbe() {
  for (const uint64_t id : turns_) {
    Sequence& sequence = sequences_.at(id);
    if (!sequence.in_fill() || sequence.filled > (std::ssize(sequence.held.table) - 1) * ops::kPageTokens)
      continue;
    return keeper_.Shrink(sequence.held);
  }
  Sequence* last = nullptr;
  for (const uint64_t id : turns_) {
    Sequence& sequence = sequences_.at(id);
    if (sequence.decodes() && (last == nullptr || last->rank < sequence.rank)) last = &sequence;
  }
  if (last != nullptr && leaving_ == 0) Preempt(*last);
}

bool Scheduler::WantsPage(const Sequence& sequence) const {
  if (!sequence.in_fill() && !sequence.decodes()) return false;
  const int64_t from = sequence.in_fill() ? sequence.fill_end : sequence.next_row() + 1;
  const int64_t rows = std::max(from, std::min(from + limits_.max_steps_in_flight, sequence.most_rows()));
  return std::ssize(sequence.held.table) < PagesFor(rows);
}

bool Scheduler::GrowAnswers() {
  while (true) {
    std::vector<Sequence*> wanting;
    for (const uint64_t id : turns_) {
      if (Sequence& sequence = sequences_.at(id); WantsPage(sequence)) wanting.push_back(&sequence);
    }
    std::ranges::sort(wanting, {}, [](const Sequence* sequence) { return sequence->rank; });
    int64_t lacking = 0;
    for (Sequence* sequence : wanting) {
      while (WantsPage(*sequence) && keeper_.Grow(sequence->held)) continue;
      lacking += WantsPage(*sequence) ? 1 : 0;
    }
    if (lacking == 0) return true;
    // What comes back when steps under way are done is not asked for twice.
    int64_t coming = 0;
    for (const auto& [id, sequence] : sequences_) {
      const bool leaves =
          sequence.state == Sequence::State::kLeaving || sequence.state == Sequence::State::kEnded;
      if (leaves) coming += keeper_.WouldReturn(sequence.held);
    }
    if (coming >= lacking) return false;
    Sequence* last = nullptr;
    for (const uint64_t id : turns_) {
      Sequence& sequence = sequences_.at(id);
      if (sequence.decodes() && (last == nullptr || last->rank < sequence.rank)) last = &sequence;
    }
    if (last == nullptr) return false;
    Preempt(*last);
  }
}

void Scheduler::Preempt(Sequence& sequence) {
  ++preemptions_;
  ++leaving_;
  std::erase(turns_, sequence.request.id);
  sequence.state = Sequence::State::kLeaving;
  sequence.request.prompt_logprobs = false;  // all of them are on their way
  LetGoIfDone(sequence);
}

}  // namespace sluice::schedule
