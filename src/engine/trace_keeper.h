#pragma once

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/job.h"

namespace sluice::engine {

// What is dumped without being asked for.
struct TraceOptions {
  std::filesystem::path directory;    // --trace-dir; empty: nothing is
  double slow_request_seconds = 0.0;  // --trace-slow-request; 0: no request is slow
};

// Writes what the ranks' rings of events hold as trace files (trace/dump.h), one for each rank, on the
// controller's host: when somebody asks, when a profile ends, and by itself when a request was slow, a rank
// stalls or the job ends. A thread of its own asks the ranks one after the other, so neither the server nor
// the scheduler waits, and one rank's events are in memory at a time. A rank that does not answer within 2 s
// has no file, but for one that failed, which sent its events before.
class TraceKeeper {
 public:
  TraceKeeper(TraceOptions options, const parallel::Grid& grid);
  ~TraceKeeper();  // Stop
  TraceKeeper(const TraceKeeper&) = delete;
  TraceKeeper& operator=(const TraceKeeper&) = delete;

  // From now on, and until Stop, asks the ranks of this job.
  void Begin(Job& job);
  // Finishes what it was asked for.
  void Stop();

  // As Engine has them.
  void StartProfile(const ProfileRequest& request, TraceSink sink);
  void StopProfile(TraceSink sink);
  void Dump(const std::string& output_dir, TraceSink sink);

  // Any thread; none of these waits.
  void Completed(int64_t step);
  void Stalled() { DumpByItself("stall", /*at_most_every=*/false); }
  void Ended() { DumpByItself("end", /*at_most_every=*/false); }
  // Dumps if it was slow: `seconds` from its submission to its end.
  void RequestEnded(RequestId id, double seconds);

 private:
  // Where a profile begins on one rank.
  struct Mark {
    uint64_t next = 0;
    int64_t begin_ns = -1;  // the rank's clock; below 0: with what is left in its ring
    std::vector<trace::ClockPoint> clock;
  };
  struct Profile {
    ProfileRequest request;
    std::filesystem::path directory;
    std::vector<Mark> marks;  // by rank; none: not begun
    int64_t steps = 0;        // completed since
    bool ending = false;
  };
  using Task = std::function<void()>;

  std::filesystem::path DirectoryFor(const std::string& asked) const;
  void DumpByItself(const std::string& reason, bool at_most_every);
  void Post(Task task);
  void Work();
  std::vector<Mark> MarkAll();
  const std::vector<trace::ClockPoint>& ClockOf(int rank);
  TraceFiles Write(const std::filesystem::path& into, const std::string& name, const std::string& reason,
                   const std::vector<Mark>& marks, int64_t first_step, bool merge);
  TraceFiles EndProfile();

  const TraceOptions options_;
  const parallel::Grid grid_;
  Job* job_ = nullptr;
  // As of the last answer of each rank; of the thread. A rank that is gone is asked no more.
  std::vector<std::vector<trace::ClockPoint>> clocks_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  std::optional<Profile> profile_;
  int written_by_itself_ = 0;
  int64_t last_slow_ns_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::engine
