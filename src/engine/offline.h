#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/job.h"
#include "schedule/scheduler.h"

namespace sluice::engine {

struct OfflineRequest {
  std::vector<int32_t> prompt;
  int64_t max_tokens = 1;
  ops::SamplingParams sampling;
  bool return_logits = false;  // of every row computed
};

struct OfflineResult {
  std::vector<int32_t> tokens;
  std::vector<float> logits;  // [rows computed, vocab], by position
  double first_token_seconds = 0.0;
  double seconds = 0.0;
  std::vector<double> token_seconds;  // when each token was there, since the call of Run
  std::vector<int32_t> pages;         // where its cache lies until another Run
  int64_t cached_tokens = 0;          // positions that are in the cache
};

// Runs batches of requests to their end on a job of its own: the way of the demo, of `sluice generate` and of
// tests that compare layouts. Same scheduler, same steps, same ranks as the server.
class OfflineRunner {
 public:
  // chunk_rows, max_running, keeps_prefixes: as in schedule::Limits.
  OfflineRunner(const JobSettings& settings, int64_t chunk_rows, int64_t max_running,
                std::unique_ptr<RankSet> ranks, bool keeps_prefixes = false);

  // All requests at once, as if they had arrived together; results in their order. Throws Error(kRankLost)
  // with the verdict when a rank is lost.
  std::vector<OfflineResult> Run(const std::vector<OfflineRequest>& requests);

  Job& job() { return *job_; }

 private:
  step::StepResult WaitResult();

  schedule::Scheduler scheduler_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<step::StepResult> results_;
  std::string ended_;
  uint64_t next_id_ = 1;
  std::unique_ptr<Job> job_;
};

}  // namespace sluice::engine
