#include "base/compute_pool.h"

#include <atomic>
#include <exception>

namespace sluice {

struct ComputePool::Loop {
  int64_t count = 0;
  const std::function<void(int64_t)>* body = nullptr;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::mutex mutex;
  std::condition_variable finished;
  std::exception_ptr failure;
};

ComputePool::ComputePool(int workers) {
  threads_.reserve(workers);
  for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { Work(); });
}

ComputePool::~ComputePool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_arrived_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ComputePool::RunShare(Loop& loop) {
  int64_t finished_here = 0;
  for (int64_t i = loop.next.fetch_add(1); i < loop.count; i = loop.next.fetch_add(1)) {
    try {
      (*loop.body)(i);
    } catch (...) {
      std::lock_guard lock(loop.mutex);
      if (!loop.failure) loop.failure = std::current_exception();
    }
    ++finished_here;
  }
  if (finished_here > 0 && loop.done.fetch_add(finished_here) + finished_here == loop.count) {
    std::lock_guard lock(loop.mutex);
    loop.finished.notify_all();
  }
}

void ComputePool::Work() {
  while (true) {
    std::shared_ptr<Loop> loop;
    {
      std::unique_lock lock(mutex_);
      work_arrived_.wait(lock, [this] { return stopping_ || !loops_.empty(); });
      if (stopping_) return;
      loop = loops_.front();
      if (loop->next.load() >= loop->count) {
        loops_.pop_front();
        continue;
      }
      // Loops of several ranks take turns at the front, so that no rank starves another.
      loops_.pop_front();
      loops_.push_back(loop);
    }
    RunShare(*loop);
  }
}

void ComputePool::ParallelFor(int64_t count, const std::function<void(int64_t)>& body) {
  if (count <= 0) return;
  if (threads_.empty() || count == 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  auto loop = std::make_shared<Loop>();
  loop->count = count;
  loop->body = &body;
  {
    std::lock_guard lock(mutex_);
    loops_.push_back(loop);
  }
  work_arrived_.notify_all();
  RunShare(*loop);
  std::unique_lock lock(loop->mutex);
  loop->finished.wait(lock, [&] { return loop->done.load() == count; });
  if (loop->failure) std::rethrow_exception(loop->failure);
}

}  // namespace sluice
