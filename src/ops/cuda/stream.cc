#include "ops/cuda/stream.h"

#include <atomic>
#include <new>
#include <utility>

#include "ops/cuda/check.h"
#include "ops/cuda/driver.h"
#include "ops/cuda/event.h"

namespace sluice::ops::cuda {
namespace {

void CheckDriver(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  Fail(ErrorKind::kInternal, "the GPU refused {}: CUDA error {}", what, static_cast<int>(result));
}

}  // namespace

Gate::Gate() {
  void* word = nullptr;
  Check(cudaHostAlloc(&word, sizeof(uint32_t), cudaHostAllocMapped | cudaHostAllocPortable),
        "pinning a gate");
  word_ = new (word) uint32_t(0);
}

Gate::~Gate() { cudaFreeHost(word_); }

void Gate::Open() { std::atomic_ref(*word_).store(1); }

Stream::Stream(bool for_copies) {
  Check(cudaGetDevice(&device_), "asking for the device");
  int least = 0;
  int greatest = 0;
  Check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for the priorities of streams");
  Check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, for_copies ? greatest : least),
        "creating a stream");
}

void Stream::Use() const { Check(cudaSetDevice(device_), "choosing GPU {}", device_); }

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

void Stream::WaitFor(const Gate& gate) {
  static const auto wait = FindDriver<decltype(&cuStreamWaitValue32)>("cuStreamWaitValue32");
  CheckDriver(wait(stream_, reinterpret_cast<CUdeviceptr>(gate.word_), 1, CU_STREAM_WAIT_VALUE_GEQ),
              "a wait for a word");
}

void Stream::Copy(const void* from, void* to, int64_t bytes) {
  Use();
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
  if (settle_) settle_();
  Use();
  Check(cudaStreamSynchronize(stream_), "an op enqueued before");
}

void Stream::FinishUpTo(const StreamMark& mark) {
  if (settle_) settle_();
  Use();
  Check(cudaEventSynchronize(dynamic_cast<const Event&>(mark).get()), "an op enqueued before");
}

}  // namespace sluice::ops::cuda
