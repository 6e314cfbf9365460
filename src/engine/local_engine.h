#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "engine/answer_control.h"
#include "engine/engine.h"
#include "engine/job.h"
#include "engine/prefill_rate.h"
#include "engine/step_log.h"
#include "engine/trace_keeper.h"
#include "schedule/queue_bound.h"
#include "schedule/scheduler.h"

namespace sluice::engine {

struct EngineOptions {
  int64_t chunk_rows = 8192;         // --chunked-prefill-size
  int64_t max_running = 64;          // --max-running-requests
  int64_t context_length = 0;        // --context-length; 0: the model's
  int64_t prefill_rows = 0;          // --max-prefill-tokens; 0: as chunk_rows
  int64_t step_sequences = 0;        // --pp-max-micro-batch-size; 0: any number
  int64_t decode_log_interval = 40;  // --decode-log-interval
  bool keeps_prefixes = true;        // --disable-radix-cache
  bool by_priority = false;          // --enable-priority-scheduling
  bool low_values_first = false;     // --schedule-low-priority-values-first
  int64_t max_queued = 2048;         // --max-queued-requests
  int64_t max_queued_tokens = 0;     // --max-queued-tokens; 0: sixteen times what the cache holds
  TraceOptions trace{};              // --trace-dir, --trace-slow-request
};

// The engine in the controller's process: one thread owns the scheduler, publishes steps ahead of need and
// turns results into the requests' events.
class LocalEngine final : public Engine {
 public:
  // Takes the job's settings and started ranks; returns when the ranks are ready.
  LocalEngine(const JobSettings& settings, const EngineOptions& options,
              const checkpoint::ModelConfig& config, bool checkpoint_is_fp8, std::unique_ptr<RankSet> ranks);
  ~LocalEngine() override;

  const EngineInfo& info() const override { return info_; }
  RequestId Submit(Request request, EventSink sink) override;
  void Abort(RequestId id) override;
  bool FlushCache() override;
  std::vector<RankInfo> Ranks() override;
  std::string Verdict() const override { return job_->verdict(); }
  EngineLoad Load() const override;
  std::string Stall() const override { return job_->standing().stalled; }
  StallReport Report() const override;
  void StartProfile(const ProfileRequest& request, TraceSink sink) override {
    traces_.StartProfile(request, std::move(sink));
  }
  void StopProfile(TraceSink sink) override { traces_.StopProfile(std::move(sink)); }
  void DumpTrace(const std::string& output_dir, TraceSink sink) override {
    traces_.Dump(output_dir, std::move(sink));
  }

  Job& job() { return *job_; }
  // Ends every request with an error event and stops the ranks.
  void Stop();

 private:
  struct Running {
    Request request;  // without its prompt, which is the scheduler's from the moment it is added
    EventSink sink;
    int64_t prompt_tokens = 0;
    int64_t generated = 0;
    int64_t prompt_done = 0;
    int64_t cached_tokens = 0;
    int64_t submitted_ns = 0;
    int64_t started_ns = 0;  // when its first row was published
    std::vector<TokenLogprobs> prompt_logprobs;
    std::unique_ptr<AnswerControl> control;  // null: the logits stay as they are
  };

  // Throws DeadlineUnreachable. With mutex_ held.
  void CheckDeadline(int64_t deadline_ns) const;
  // Waits until it is known whether one more fits into the queue, and throws QueueFull if not.
  void AwaitRoom(std::unique_lock<std::mutex>& lock, int64_t prompt);
  void Work();
  void Take(std::deque<std::pair<RequestId, Running>> submitted);
  void EndExpired();
  void Flush(int64_t asked);
  void PublishReady();
  void NoteStep(const step::Step& step);
  // Gives the rows that sample what their requests do to the logits.
  void Adjust(step::Step& step) const;
  // The worker thread's, from the scheduler; NoteLoad shows it to the others.
  EngineLoad CurrentLoad() const;
  void ShowLoad();
  void NoteLoad();
  std::optional<double> Bubble() const;
  void Deliver(const step::StepResult& result);
  void Finish(RequestId id, FinishReason reason, Event event);
  void EndAll(const std::string& sentence);

  JobSettings settings_;
  EngineInfo info_;
  std::vector<parallel::LayerRange> layer_cut_;
  std::vector<int64_t> mtp_layers_;  // that ranks of the last stage hold
  schedule::Scheduler scheduler_;
  schedule::QueueBound queue_bound_;

  mutable std::mutex mutex_;
  std::condition_variable something_;
  std::condition_variable turn_done_;  // of the worker
  std::deque<std::pair<RequestId, Running>> submitted_;
  std::deque<RequestId> aborted_;
  std::deque<step::StepResult> results_;
  std::string ended_;  // the sentence after which nothing runs
  bool stopping_ = false;
  bool in_turn_ = false;        // the worker: load_ is about to change
  int64_t submitted_rows_ = 0;  // prompts of what is submitted and not in load_ yet
  int64_t submitted_count_ = 0;
  int64_t waiting_rows_ = 0;  // beside load_
  int64_t flushes_asked_ = 0;
  int64_t flushes_done_ = 0;
  bool flushed_ = false;  // the last of them
  int64_t next_deadline_ns_ = 0;
  EngineLoad load_;
  RequestId next_id_ = 1;

  std::map<RequestId, Running> running_;  // the worker thread's, as are the next two
  StepLog step_log_;
  PrefillRate prefill_rate_;
  TraceKeeper traces_;  // told of by the job, and asks it
  std::unique_ptr<Job> job_;
  std::thread worker_;
};

}  // namespace sluice::engine
