#include "bench/load_run.h"

#include <algorithm>
#include <condition_variable>
#include <latch>
#include <mutex>
#include <optional>
#include <thread>

#include "base/clock.h"

namespace sluice::bench {
namespace {

// A run under way; its threads take the requests one by one.
class Run {
 public:
  Run(const Workload& workload, const SendRequest& send, const std::function<void(size_t)>& on_done,
      size_t threads)
      : workload_(workload),
        send_(send),
        on_done_(on_done),
        ready_(static_cast<std::ptrdiff_t>(threads) + 1) {
    records_.resize(workload.size());
  }

  LoadOutcome Do(size_t threads) {
    std::vector<std::thread> pool;
    pool.reserve(threads);
    for (size_t slot = 0; slot < threads; ++slot) pool.emplace_back([this, slot] { Work(slot); });
    // No thread's start falls into the time that is measured.
    begin_ = Clock::now();
    ready_.arrive_and_wait();
    for (std::thread& thread : pool) thread.join();
    LoadOutcome outcome;
    outcome.seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    outcome.ended_early = ended_;
    for (std::optional<RequestRecord>& record : records_) {
      if (record.has_value()) outcome.records.push_back(std::move(*record));
    }
    return outcome;
  }

 private:
  // The next request whose time has come; nothing when there is none or the run is ending.
  std::optional<size_t> Take() {
    std::unique_lock lock(mutex_);
    if (next_ == workload_.size() || !ended_.empty()) return std::nullopt;
    const size_t mine = next_++;
    const auto at = begin_ + std::chrono::duration_cast<Clock::duration>(
                                 std::chrono::duration<double>(workload_[mine].at_seconds));
    changed_.wait_until(lock, at, [this] { return !ended_.empty(); });
    if (!ended_.empty()) return std::nullopt;
    return mine;
  }

  void Work(size_t slot) {
    ready_.arrive_and_wait();
    while (const std::optional<size_t> mine = Take()) {
      RequestRecord record = send_(slot, workload_[*mine]);
      std::lock_guard lock(mutex_);
      if (record.unreachable && ended_.empty()) {
        ended_ = record.error;
        changed_.notify_all();
      }
      records_[*mine] = std::move(record);
      on_done_(++done_);
    }
  }

  const Workload& workload_;
  const SendRequest& send_;
  const std::function<void(size_t)>& on_done_;
  std::latch ready_;
  Clock::time_point begin_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t next_ = 0;
  size_t done_ = 0;
  std::string ended_;
  std::vector<std::optional<RequestRecord>> records_;
};

}  // namespace

LoadOutcome RunLoad(const Workload& workload, int64_t max_concurrency, const SendRequest& send,
                    const std::function<void(size_t)>& on_done) {
  const size_t threads =
      max_concurrency > 0 ? std::min(workload.size(), static_cast<size_t>(max_concurrency)) : workload.size();
  return Run(workload, send, on_done, threads).Do(threads);
}

}  // namespace sluice::bench
