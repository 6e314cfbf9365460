#include "engine/offline.h"

#include <algorithm>
#include <map>
#include <utility>

namespace sluice::engine {
namespace {

schedule::Limits OfflineLimits(const JobSettings& settings, int64_t chunk_rows, int64_t max_running,
                               bool keeps_prefixes) {
  schedule::Limits limits = LimitsOf(settings, chunk_rows, max_running);
  limits.keeps_prefixes = keeps_prefixes;
  return limits;
}

}  // namespace

OfflineRunner::OfflineRunner(const JobSettings& settings, int64_t chunk_rows, int64_t max_running,
                             std::unique_ptr<RankSet> ranks, bool keeps_prefixes)
    : scheduler_(OfflineLimits(settings, chunk_rows, max_running, keeps_prefixes)) {
  JobEvents events;
  events.on_result = [this](step::StepResult result) {
    std::lock_guard lock(mutex_);
    results_.push_back(std::move(result));
    arrived_.notify_all();
  };
  events.on_end = [this](const std::string& verdict) {
    std::lock_guard lock(mutex_);
    ended_ = verdict;
    arrived_.notify_all();
  };
  job_ = std::make_unique<Job>(settings, std::move(ranks), std::move(events));
}

step::StepResult OfflineRunner::WaitResult() {
  std::unique_lock lock(mutex_);
  arrived_.wait(lock, [this] { return !results_.empty() || !ended_.empty(); });
  if (results_.empty()) throw Error(ErrorKind::kRankLost, ended_);
  step::StepResult result = std::move(results_.front());
  results_.pop_front();
  return result;
}

namespace {

// A sequence that was preempted computes rows again: those known already are passed over.
void AddLogits(const step::StepSequence& part, const std::vector<float>& logits, OfflineResult& result) {
  const size_t row = logits.size() / part.tokens.size();
  const size_t known = row == 0 ? 0 : result.logits.size() / row;
  const auto begin = static_cast<size_t>(part.first_position);
  const size_t skipped = std::min(known > begin ? known - begin : 0, part.tokens.size());
  result.logits.insert(result.logits.end(), logits.begin() + static_cast<int64_t>(skipped * row),
                       logits.end());
}

}  // namespace

std::vector<OfflineResult> OfflineRunner::Run(const std::vector<OfflineRequest>& requests) {
  std::vector<OfflineResult> results(requests.size());
  std::map<uint64_t, size_t> index_of;  // requests still running
  std::deque<step::Step> in_flight;
  const int64_t begin_ns = NowNs();
  for (size_t i = 0; i < requests.size(); ++i) {
    const OfflineRequest& request = requests[i];
    index_of.emplace(next_id_, i);
    scheduler_.Add({next_id_++, request.prompt, request.max_tokens, false, request.sampling});
  }
  while (!index_of.empty()) {
    for (auto group = scheduler_.NextGroup(); !group.empty(); group = scheduler_.NextGroup()) {
      for (step::Step& step : group) {
        for (step::StepSequence& sequence : step.sequences) {
          const auto found = index_of.find(sequence.sequence);
          if (found == index_of.end()) continue;
          OfflineResult& result = results[found->second];
          sequence.return_logits = requests[found->second].return_logits;
          result.pages = sequence.pages;
          result.cached_tokens = sequence.first_position + static_cast<int64_t>(sequence.tokens.size());
        }
      }
      job_->Publish(group);
      for (step::Step& step : group) in_flight.push_back(std::move(step));
    }
    const step::StepResult done = WaitResult();
    scheduler_.Completed(done);
    const double elapsed = static_cast<double>(NowNs() - begin_ns) / 1e9;
    const step::Step step = std::move(in_flight.front());
    in_flight.pop_front();
    for (size_t i = 0; i < done.sequences.size(); ++i) {
      const step::SequenceResult& sequence = done.sequences[i];
      const auto found = index_of.find(sequence.sequence);
      if (found == index_of.end()) continue;
      const OfflineRequest& request = requests[found->second];
      OfflineResult& result = results[found->second];
      AddLogits(step.sequences[i], sequence.logits, result);
      if (sequence.sampled) {
        if (result.tokens.empty()) result.first_token_seconds = elapsed;
        result.tokens.push_back(sequence.token.token);
        result.token_seconds.push_back(elapsed);
      }
      const bool prompt_done =
          scheduler_.PromptRowsDone(sequence.sequence) == static_cast<int64_t>(request.prompt.size());
      if (prompt_done && static_cast<int64_t>(result.tokens.size()) >= request.max_tokens) {
        result.seconds = elapsed;
        scheduler_.End(sequence.sequence);
        index_of.erase(found);
      }
    }
  }
  return results;
}

}  // namespace sluice::engine
