#include "ops/cuda/stream.h"

#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

#include "ops/cuda/check.h"
#include "ops/cuda/driver.h"

namespace sluice::ops::cuda {
namespace {

void CheckDriver(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  Fail(ErrorKind::kInternal, "the GPU refused {}: CUDA error {}", what, static_cast<int>(result));
}

class Event final : public StreamMark {
 public:
  Event() { Check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "creating an event"); }
  ~Event() override { cudaEventDestroy(event_); }
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

using Word = std::atomic<uint32_t>;
static_assert(sizeof(Word) == sizeof(uint32_t) && Word::is_always_lock_free);

// A word and the number of times it has been a gate: it is open once its value has come that far. So a wait
// that a stream reaches late passes, though the word is another gate by then.
struct Ticket {
  Word* word = nullptr;
  uint32_t number = 0;
};

// The words of gates, used again and again and never freed: freeing would wait for the device.
class Words {
 public:
  Ticket Take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) {
      constexpr size_t kWords = 1024;
      void* memory = nullptr;
      Check(cudaHostAlloc(&memory, kWords * sizeof(Word), cudaHostAllocMapped | cudaHostAllocPortable),
            "pinning the words of {} gates", kWords);
      for (size_t i = 0; i < kWords; ++i) free_.push_back({new (static_cast<Word*>(memory) + i) Word(0), 0});
    }
    Ticket ticket = free_.back();
    free_.pop_back();
    ++ticket.number;
    return ticket;
  }
  void Return(const Ticket& ticket) {
    std::lock_guard lock(mutex_);
    free_.push_back(ticket);
  }

 private:
  std::mutex mutex_;
  std::vector<Ticket> free_;
};

Words& AllWords() {
  static auto* words = new Words;
  return *words;
}

class Gate final : public StreamGate {
 public:
  Gate() : ticket_(AllWords().Take()) {}
  ~Gate() override { AllWords().Return(ticket_); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  void Open() override { ticket_.word->store(ticket_.number); }
  CUdeviceptr address() const { return reinterpret_cast<CUdeviceptr>(ticket_.word); }
  uint32_t number() const { return ticket_.number; }

 private:
  const Ticket ticket_;
};

}  // namespace

Stream::Stream() { Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream"); }

Stream::~Stream() {
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

std::unique_ptr<StreamMark> Stream::Record() {
  auto event = std::make_unique<Event>();
  Check(cudaEventRecord(event->get(), stream_), "recording an event");
  return event;
}

void Stream::WaitFor(const StreamMark& mark) {
  Check(cudaStreamWaitEvent(stream_, dynamic_cast<const Event&>(mark).get(), 0), "waiting for an event");
}

void Stream::WaitFor(const StreamGate& gate) {
  static const auto wait = FindDriver<decltype(&cuStreamWaitValue32)>("cuStreamWaitValue32");
  const Gate& at = dynamic_cast<const Gate&>(gate);
  CheckDriver(wait(stream_, at.address(), at.number(), CU_STREAM_WAIT_VALUE_GEQ), "a wait for a word");
}

// The driver puts a fence of the whole system before the write.
void Stream::Open(StreamGate& gate) {
  static const auto write = FindDriver<decltype(&cuStreamWriteValue32)>("cuStreamWriteValue32");
  const Gate& at = dynamic_cast<const Gate&>(gate);
  CheckDriver(write(stream_, at.address(), at.number(), CU_STREAM_WRITE_VALUE_DEFAULT), "a write of a word");
}

void Stream::Copy(const void* from, void* to, int64_t bytes) {
  Check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream_),
        "a copy of {} bytes", bytes);
}

void Stream::Call(std::function<void()> what) {
  auto call = std::make_unique<std::function<void()>>(std::move(what));
  const auto run = [](void* given) {
    const std::unique_ptr<std::function<void()>> mine(static_cast<std::function<void()>*>(given));
    (*mine)();
  };
  Check(cudaLaunchHostFunc(stream_, run, call.get()), "a call to the host");
  call.release();
}

void Stream::Finish() {
  Settle();
  Check(cudaStreamSynchronize(stream_), "an op enqueued before");
}

std::unique_ptr<StreamGate> NewGate() { return std::make_unique<Gate>(); }

}  // namespace sluice::ops::cuda
