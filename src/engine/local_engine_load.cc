#include "engine/local_engine.h"
#include "trace/times.h"

// How much is under way: what routes, metrics and the log are shown, and whoever waits for room in the queue.
namespace sluice::engine {

EngineLoad LocalEngine::CurrentLoad() const {
  EngineLoad load;
  load.running = scheduler_.running();
  load.waiting = scheduler_.waiting();
  load.cached_tokens = scheduler_.cached_pages() * ops::kPageTokens;
  load.used_tokens =
      (scheduler_.pages() - scheduler_.free_pages() - scheduler_.cached_pages()) * ops::kPageTokens;
  load.max_total_tokens = info_.max_total_tokens;
  load.pending_prefill_tokens = scheduler_.pending_prompt_rows();
  load.prefill_tokens_per_second = prefill_rate_.rows_per_second();
  load.preempted = scheduler_.preemptions();
  return load;
}

EngineLoad LocalEngine::Load() const {
  std::lock_guard lock(mutex_);
  return load_;
}

// As of the ranks' last heartbeats: the log waits for nobody.
std::optional<double> LocalEngine::Bubble() const {
  std::vector<trace::BusyPeriod> periods;
  std::vector<int32_t> stages;
  for (const RankState& rank : job_->Record().ranks) {
    stages.push_back(settings_.grid.StageOf(static_cast<int>(periods.size())));
    periods.push_back(rank.heartbeat.period);
  }
  const auto busy = trace::BusySharesOf(periods, stages);
  return busy.has_value() ? std::optional(busy->all.bubble()) : std::nullopt;
}

void LocalEngine::ShowLoad() {
  const EngineLoad load = CurrentLoad();
  std::lock_guard lock(mutex_);
  load_ = load;
  // With the ranks their caches are gone; the scheduler waits for steps that nobody answers any more.
  if (!ended_.empty()) load_.used_tokens = load_.cached_tokens = load_.pending_prefill_tokens = 0;
}

// The end of a turn of the worker.
void LocalEngine::NoteLoad() {
  ShowLoad();
  std::lock_guard lock(mutex_);
  in_turn_ = false;
  waiting_rows_ = scheduler_.waiting_rows();
  next_deadline_ns_ = scheduler_.NextDeadline();
  submitted_count_ = std::ssize(submitted_);
  submitted_rows_ = 0;
  for (const auto& [id, running] : submitted_) submitted_rows_ += running.prompt_tokens;
  turn_done_.notify_all();
}

}  // namespace sluice::engine
