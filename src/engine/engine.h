#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/request.h"
#include "trace/times.h"

namespace sluice::engine {

// What one rank is and has done since the start.
struct RankInfo {
  int32_t rank = 0;
  int32_t stage = 0;
  int32_t lane = 0;
  std::vector<std::pair<int64_t, int64_t>> layers;  // [begin, end) ranges
  std::vector<int64_t> mtp_layers;                  // held beside them; nothing computes with them
  int64_t rows_computed = 0;
  int64_t hop_bytes_sent = 0;
  int64_t hop_bytes_received = 0;
  int64_t hop_selection_bytes_sent = 0;  // of hop_bytes_sent
  int64_t expert_choice_bytes = 0;       // sent to other lanes for MoE layers; model::ExpertTraffic
  int64_t expert_dispatch_bytes = 0;
  int64_t expert_return_bytes = 0;
  int64_t expert_row_owners = 0;
  trace::Times times;        // since the rank was ready
  trace::BusyPeriod period;  // the last one it took part in
};

// Where one rank is and what it waits for, from its last heartbeat.
struct RankReport {
  int32_t rank = 0;
  int32_t stage = 0;
  int32_t lane = 0;
  std::string host;      // empty before its first heartbeat
  std::string activity;  // "computes", "waits", "idle", "starts", "failed", "gone"
  int64_t step = -1;     // -1: before the first
  int32_t pass = 0;
  int32_t layer = -1;          // -1: outside the layers
  int64_t received_step = -1;  // last published step that has reached it
  std::string op;              // of the wait in progress; empty: none
  int32_t peer = -1;           // of the wait; -1: none, or the controller
  int64_t bytes = 0;           // of the wait; 0: not known
  double waited_seconds = 0.0;
  double progress_age_seconds = 0.0;
  double heard_age_seconds = 0.0;
  uint64_t collectives = 0;  // begun
  uint64_t hops_sent = 0;
  uint64_t hops_taken = 0;
  int64_t rows_computed = 0;
  int64_t hop_bytes_sent = 0;
  int64_t hop_bytes_received = 0;
  trace::Times times;        // since the rank was ready
  trace::BusyPeriod period;  // the last one it took part in
  std::string error;         // why it failed or is gone
};

struct StallReport {
  bool ended = false;   // the job is over
  std::string verdict;  // empty while every rank is well
  int32_t named_rank = -1;
  std::vector<int64_t> due_steps;  // published, without result
  std::vector<RankReport> ranks;
  std::string text;  // all of it as a table for a log
};

// Limits and identity that requests are checked against.
struct EngineInfo {
  int64_t vocab_size = 0;
  int64_t context_length = 0;    // prompt + answer
  int64_t max_total_tokens = 0;  // cache capacity; one request may not need more
  std::vector<int32_t> eos_token_ids;
  std::string numerics;          // "exact" or "fp8"
  int64_t lanes = 1;             // ranks of a stage
  int64_t expert_row_bytes = 0;  // of a row on its way to an expert, and of a sum on its way back
  int64_t expert_sum_bytes = 0;
  bool priority_scheduling = false;  // without it a priority other than 0 means nothing: refuse it
  bool prefix_cache = true;          // off with --disable-radix-cache
};

// How busy the engine is, as of its last step.
struct EngineLoad {
  int64_t running = 0;      // requests admitted
  int64_t waiting = 0;      // requests not admitted yet
  int64_t used_tokens = 0;  // of the cache, in whole pages held by requests
  int64_t max_total_tokens = 0;
  int64_t cached_tokens =
      0;  // beside used_tokens: kept for later prefix hits, given up when pages are needed
  int64_t pending_prefill_tokens = 0;      // prompt rows of requests submitted and not yet computed
  double prefill_tokens_per_second = 0.0;  // measured lately; 0: not yet
  int64_t preempted = 0;                   // times a request lost its pages to another, since the start
};

// Submit's refusal while the queue is full: HTTP 503 queue_full.
class QueueFull final : public Error {
 public:
  QueueFull(const std::string& sentence, double retry_after_seconds)
      : Error(ErrorKind::kOverloaded, sentence), retry_after_seconds_(retry_after_seconds) {}
  // How long the prompt rows that wait take at the rate measured lately; 0: no rate has been measured yet.
  double retry_after_seconds() const { return retry_after_seconds_; }

 private:
  double retry_after_seconds_;
};

// Submit's refusal of a request whose deadline will have passed before its first row is computed, by the rate
// measured lately: HTTP 503 deadline_unreachable.
class DeadlineUnreachable final : public Error {
 public:
  DeadlineUnreachable(const std::string& sentence, double wait_seconds)
      : Error(ErrorKind::kOverloaded, sentence), wait_seconds_(wait_seconds) {}
  // How long the prompt rows before it take.
  double wait_seconds() const { return wait_seconds_; }

 private:
  double wait_seconds_;
};

// What a profile is asked to be.
struct ProfileRequest {
  std::string output_dir;   // on the controller's host; empty: --trace-dir
  std::string prefix;       // of the directory's name; empty: sluice
  int64_t start_step = -1;  // steps before it are left out; below 0: none is
  int64_t num_steps = 0;    // ends by itself when so many steps have been answered; 0: it does not
  bool merge = false;       // also as one file for Perfetto
};

// What became of a dump of the ranks' events.
struct TraceFiles {
  bool success = false;
  std::string message;  // a sentence
  std::vector<std::string> files;
  uint64_t events = 0;
  uint64_t lost = 0;  // overwritten before they could be written
};
// Called once, on a thread of the engine.
using TraceSink = std::function<void(TraceFiles)>;

// The facade the server talks to. Thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual const EngineInfo& info() const = 0;
  // Queues the request; events go to `sink`. Throws Error(kBadRequest) when it can never run (an empty
  // prompt, a token outside the vocabulary, prompt + max_tokens over a limit), QueueFull when too many wait,
  // DeadlineUnreachable when it would wait too long,
  // and Error(kRankLost) when the job has ended.
  virtual RequestId Submit(Request request, EventSink sink) = 0;
  // Ends a request early; its last event has FinishReason::kAbort. Unknown or finished ids are ignored.
  virtual void Abort(RequestId id) = 0;
  // Forgets every cached prefix. False, and nothing is forgotten, while a request runs or waits. Returns when
  // it is done.
  virtual bool FlushCache() = 0;
  virtual std::vector<RankInfo> Ranks() = 0;
  virtual EngineLoad Load() const = 0;
  // Empty while every rank is well; otherwise the sentence of the verdict, naming the rank.
  virtual std::string Verdict() const = 0;
  // Empty while every rank arrives in time; otherwise the sentence that names the one that does not. Unlike a
  // verdict it passes when the rank comes.
  virtual std::string Stall() const = 0;
  // At once, also when ranks do not answer.
  virtual StallReport Report() const = 0;
  // The ranks record at all times (trace/recorder.h); a profile is what they have recorded between its start
  // and its end. Throw Error(kBadRequest) when there is no directory to write to, when one is under way, when
  // none is. The sink of Start is called when every rank has said where it begins.
  virtual void StartProfile(const ProfileRequest& request, TraceSink sink) = 0;
  virtual void StopProfile(TraceSink sink) = 0;
  // All that the ranks still remember. Throws Error(kBadRequest) when there is no directory.
  virtual void DumpTrace(const std::string& output_dir, TraceSink sink) = 0;
};

}  // namespace sluice::engine
