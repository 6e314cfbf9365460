#pragma once

#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "tensor/memory.h"

// Streams for tests where there is no device: each a thread that does what was put there, in order.
namespace sluice::comm {

// A mark in the test's hand: shut until it is opened.
class TestGate final : public StreamMark {
 public:
  void Open() {
    std::lock_guard lock(state_->mutex);
    state_->open = true;
    state_->opened.notify_all();
  }
  // Returns when it is open; may outlive the gate.
  std::function<void()> Waiter() const {
    return [state = state_] {
      std::unique_lock lock(state->mutex);
      state->opened.wait(lock, [&] { return state->open; });
    };
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable opened;
    bool open = false;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

class TestStream final : public WorkStream {
 public:
  TestStream() : thread_([this] { Run(); }) {}
  ~TestStream() override {
    Call(nullptr);
    thread_.join();
  }

  std::unique_ptr<StreamMark> Record() override {
    auto mark = std::make_unique<TestGate>();
    Call([gate = *mark]() mutable { gate.Open(); });
    return mark;
  }
  void WaitFor(const StreamMark& mark) override { Call(dynamic_cast<const TestGate&>(mark).Waiter()); }
  void Copy(const void* from, void* to, int64_t bytes) override {
    Call([=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
  }
  void Call(std::function<void()> what) override {
    std::lock_guard lock(mutex_);
    work_.push_back(std::move(what));
    changed_.notify_all();
  }
  void Finish() override {
    if (settle_) settle_();
    TestGate done;
    Call([done]() mutable { done.Open(); });
    done.Waiter()();
  }
  void FinishUpTo(const StreamMark& mark) override {
    if (settle_) settle_();
    dynamic_cast<const TestGate&>(mark).Waiter()();
  }
  void SetBeforeFinish(std::function<void()> settle) override { settle_ = std::move(settle); }

 private:
  void Run() {
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !work_.empty(); });
      const std::function<void()> what = std::move(work_.front());
      work_.pop_front();
      lock.unlock();
      if (!what) return;
      what();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  std::function<void()> settle_;
  std::thread thread_;  // last: it uses everything above
};

// The host's memory with such streams; what asks OnHost hears that it is a device's.
class StreamMemory final : public Memory {
 public:
  bool OnHost() const override { return false; }
  std::byte* Allocate(int64_t bytes) override { return HostMemory().Allocate(bytes); }
  void Free(std::byte* memory, int64_t bytes) noexcept override { HostMemory().Free(memory, bytes); }
  void Copy(const void* from, void* to, int64_t bytes) override { HostMemory().Copy(from, to, bytes); }
  std::unique_ptr<WorkStream> NewStream() override { return std::make_unique<TestStream>(); }
};

}  // namespace sluice::comm
