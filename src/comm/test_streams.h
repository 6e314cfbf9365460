#pragma once

#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "base/error.h"
#include "tensor/device_sharing.h"
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

// A mark that is recorded again and again; a stream waits for the latest record when it is told to. To wait
// for one that was never recorded is an error here.
class TestSharedMark final : public StreamMark {
 public:
  struct State {
    std::mutex mutex;
    std::condition_variable reached;
    int64_t records = 0;
    int64_t passed = 0;
    void Reach() {
      std::lock_guard lock(mutex);
      ++passed;
      reached.notify_all();
    }
  };
  TestSharedMark() = default;
  explicit TestSharedMark(std::shared_ptr<State> state) : state_(std::move(state)) {}
  const std::shared_ptr<State>& state() const { return state_; }
  std::shared_ptr<State> Record() {
    std::lock_guard lock(state_->mutex);
    ++state_->records;
    return state_;
  }
  std::function<void()> Waiter() const {
    std::lock_guard lock(state_->mutex);
    SLUICE_CHECK(state_->records > 0, "a stream waits for a mark that nobody has recorded");
    return [state = state_, latest = state_->records] {
      std::unique_lock lock_of_stream(state->mutex);
      state->reached.wait(lock_of_stream, [&] { return state->passed >= latest; });
    };
  }

 private:
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

class TestStream final : public WorkStream {
 public:
  // `before_copy`: called by the host that puts a copy here, if there.
  explicit TestStream(std::function<void()> before_copy = nullptr)
      : before_copy_(std::move(before_copy)), thread_([this] { Run(); }) {}
  ~TestStream() override {
    Call(nullptr);
    thread_.join();
  }

  std::unique_ptr<StreamMark> Record() override {
    auto mark = std::make_unique<TestGate>();
    Call([gate = *mark]() mutable { gate.Open(); });
    return mark;
  }
  void WaitFor(const StreamMark& mark) override {
    const auto* shared = dynamic_cast<const TestSharedMark*>(&mark);
    Call(shared != nullptr ? shared->Waiter() : dynamic_cast<const TestGate&>(mark).Waiter());
  }
  void Copy(const void* from, void* to, int64_t bytes) override {
    if (before_copy_) before_copy_();
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

  const std::function<void()> before_copy_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  std::function<void()> settle_;
  std::thread thread_;  // last: it uses everything above
};

// One more thing that a stream waits for, in the test's hand.
class Held {
 public:
  explicit Held(WorkStream& stream) { stream.WaitFor(gate_); }
  ~Held() { gate_.Open(); }
  void LetGo() { gate_.Open(); }

 private:
  TestGate gate_;
};

// Memory of TestSharing that has a name, which is never given back.
class NamedMemory {
 public:
  void Add(const std::byte* memory) {
    std::lock_guard lock(mutex_);
    named_.insert(memory);
  }
  bool Has(const std::byte* memory) {
    std::lock_guard lock(mutex_);
    return named_.contains(memory);
  }
  static NamedMemory& OfProcess() {
    static auto* all = new NamedMemory;
    return *all;
  }

 private:
  std::mutex mutex_;
  std::set<const std::byte*> named_;
};

// Shares the host's memory between "processes" that are threads: a name is an address.
class TestSharing final : public DeviceSharing {
 public:
  explicit TestSharing(std::string host = "here", std::string device = "0")
      : host_(std::move(host)), device_(std::move(device)) {}
  void Refuse(std::string words) { refusal_ = std::move(words); }

  std::string Host() override { return host_; }
  std::string Device() override { return device_; }
  std::string WhyNotTo(const std::string& device) override {
    return device.starts_with("far") ? "GPU " + device_ + " cannot reach the memory of GPU " + device : "";
  }
  Name NameOf(const std::byte* memory) override {
    NamedMemory::OfProcess().Add(memory);
    return BytesOf(memory);
  }
  std::shared_ptr<std::byte> Open(const Name& memory) override {
    if (!refusal_.empty()) throw Error(ErrorKind::kInternal, refusal_);
    return {Named<std::byte*>(memory), [](std::byte*) {}};
  }
  std::unique_ptr<StreamMark> NewMark() override { return std::make_unique<TestSharedMark>(); }
  void Record(WorkStream& stream, StreamMark& mark) override {
    stream.Call([record = dynamic_cast<TestSharedMark&>(mark).Record()] { record->Reach(); });
  }
  Name NameOf(const StreamMark& mark) override {
    return BytesOf(&dynamic_cast<const TestSharedMark&>(mark).state());
  }
  std::unique_ptr<StreamMark> OpenMark(const Name& mark) override {
    return std::make_unique<TestSharedMark>(*Named<const std::shared_ptr<TestSharedMark::State>*>(mark));
  }

 private:
  template <typename T>
  static Name BytesOf(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    return {bytes, bytes + sizeof(T)};
  }
  template <typename T>
  static T Named(const Name& name) {
    T value;
    SLUICE_CHECK(name.size() == sizeof(T), "a name of {} bytes", name.size());
    std::memcpy(&value, name.data(), sizeof(T));
    return value;
  }

  const std::string host_;
  const std::string device_;
  std::string refusal_;
};

// The host's memory with such streams; what asks OnHost hears that it is a device's.
class StreamMemory final : public Memory {
 public:
  bool OnHost() const override { return false; }
  std::byte* Allocate(int64_t bytes) override { return HostMemory().Allocate(bytes); }
  void Free(std::byte* memory, int64_t bytes) noexcept override {
    if (!NamedMemory::OfProcess().Has(memory)) HostMemory().Free(memory, bytes);
  }
  void Copy(const void* from, void* to, int64_t bytes) override { HostMemory().Copy(from, to, bytes); }
  std::unique_ptr<WorkStream> NewStream() override { return std::make_unique<TestStream>(before_copy_); }
  // Of streams made from now on.
  void SetBeforeCopy(std::function<void()> before_copy) { before_copy_ = std::move(before_copy); }

 private:
  std::function<void()> before_copy_;
};

}  // namespace sluice::comm
