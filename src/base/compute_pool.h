#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace sluice {

// The threads that compute on this host, shared by every CPU rank of the process. Ranks call ParallelFor
// concurrently; a caller works on its own loop too, so a pool of zero workers is a plain loop.
// Which thread runs an index never changes a result: bodies write disjoint outputs.
class ComputePool {
 public:
  // `workers` threads beside the callers; cores - 1 is the usual choice for one rank.
  explicit ComputePool(int workers);
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  // Runs body(i) for i in [0, count) and returns when all are done. The first exception of a body is
  // rethrown here after the others have finished. Thread-safe; bodies must not call ParallelFor.
  void ParallelFor(int64_t count, const std::function<void(int64_t)>& body);

  // Threads a loop may use at once: workers + the caller.
  int width() const { return static_cast<int>(threads_.size()) + 1; }

 private:
  struct Loop;
  void Work();
  static void RunShare(Loop& loop);

  std::mutex mutex_;
  std::condition_variable work_arrived_;
  std::deque<std::shared_ptr<Loop>> loops_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sluice
