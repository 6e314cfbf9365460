#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/job_settings.h"
#include "engine/rank_set.h"
#include "engine/verdict.h"
#include "pipeline/turns.h"
#include "schedule/scheduler.h"
#include "step/step.h"
#include "trace/clock_line.h"

namespace sluice::engine {

// The scheduler's limits for a job of these settings.
schedule::Limits LimitsOf(const JobSettings& settings, int64_t chunk_rows, int64_t max_running);

// What a job tells its owner; called on the job's own threads, must not block and must not call the job.
struct JobEvents {
  std::function<void(step::StepResult)> on_result;         // in the order of the steps
  std::function<void(const std::string& verdict)> on_end;  // once, when a rank is lost
  std::function<void()> on_stall{};  // when the soft limit names a rank, before anyone else
};

// The verdicts in force: sentences, empty while there is nothing to say.
struct Standing {
  std::string
      ended;  // after JobSettings::wait_limit, or at once for a rank that is gone: nothing runs any more
  std::string stalled;  // after JobSettings::stall_limit: somebody does not arrive; it may still come
  int rank = -1;        // whom the sentence names; -1: nobody
};

// The controller's view of the ranks: publishes steps, receives results, keeps everyone's records and draws
// the verdict when somebody does not arrive.
class Job {
 public:
  // Waits until every rank is ready. Throws Error(kMemory) when a rank found too little
  // memory, and Error(kRankLost) when one ended otherwise, with the verdict; all have ended by then.
  Job(const JobSettings& settings, std::unique_ptr<RankSet> ranks, JobEvents events);
  ~Job();  // Stop
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  // Puts the passes of these steps on every rank's list: the first visit of each step, then the second of
  // each, and so on, so that with virtual stages a stage works on one step while another is elsewhere. Throws
  // Error(kRankLost) with the verdict when the job has ended.
  void Publish(const std::vector<step::Step>& group);

  // The cache of a sequence on one rank (cache/stage_cache.h, Dump), after all steps published before.
  std::vector<std::byte> DumpCache(int rank, const std::vector<int32_t>& pages, int64_t tokens);
  std::vector<trace::Span> Spans(int rank) { return Recorded(rank).spans; }
  // Where the time of the rank's latest passes went.
  std::vector<trace::PassTimes> Passes(int rank) { return Recorded(rank).passes; }
  // A rank's events from number `from` on, or those it sent when it failed; nothing when there is no answer
  // within `limit`. Also when the job has ended. One thread asks, here and for clocks.
  std::optional<trace::RankEvents> Events(int rank, uint64_t from, Duration limit);
  // The rank's clock against this process's: one point, by the shortest of kClockProbes round trips, or none
  // where both read the same clock; nothing when there is no answer within `limit`.
  std::optional<std::vector<trace::ClockPoint>> Clock(int rank, Duration limit);
  static constexpr int kClockProbes = 16;
  // What the ranks say of themselves now; of those that do not answer within a second, what they said last.
  std::vector<RankState> States();
  std::string verdict() const;
  Standing standing() const;
  // What the watchdog knows, without asking the ranks: at most a heartbeat old for every rank that still
  // sends them.
  JobRecord Record() const;

  // Ends all ranks. Safe to call twice.
  void Stop();

 private:
  pipeline::RecordedTime Recorded(int rank);
  void Listen(int rank);
  void Handle(int rank, const comm::Frame& frame);
  void Watch();
  // Notes whom the soft limit names now, and logs a change. With mutex_ held.
  void NoteStall(const std::optional<Verdict>& stall);
  void SendIfThere(int rank, const comm::Frame& frame);
  std::vector<std::byte> Ask(int rank, comm::Frame request, std::vector<std::vector<std::byte>>& answers);

  JobSettings settings_;
  std::unique_ptr<RankSet> ranks_;
  JobEvents events_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  JobRecord record_;
  std::vector<pipeline::RankTurns> turns_;
  std::vector<std::vector<std::byte>> dumps_;  // by rank; empty: none arrived yet
  std::vector<std::vector<std::byte>> spans_;
  std::vector<std::vector<std::byte>> rings_;  // payloads of kEvents
  struct HeardClock {
    uint64_t number = 0;  // of the request
    int64_t heard_ns = 0;
    pipeline::ClockReading reading;
  };
  std::vector<HeardClock> clocks_;
  uint64_t clock_requests_ = 0;
  Standing standing_;
  int64_t stalled_since_ns_ = 0;
  bool stopping_ = false;
  bool out_of_memory_ = false;  // a rank ended for that
  uint64_t heartbeat_requests_ = 0;

  std::vector<std::thread> listeners_;
  std::thread watchdog_;
};

}  // namespace sluice::engine
