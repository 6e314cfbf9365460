#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "tensor/work_stream.h"

namespace sluice::ops::cuda {

// A stream of the current device, independent of the legacy stream; gone, after its work, with this object.
class Stream final : public WorkStream {
 public:
  Stream();
  ~Stream() override;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }  // NOLINT(google-explicit-constructor)

  std::unique_ptr<StreamMark> Record() override;
  void WaitFor(const StreamMark& mark) override;
  void WaitFor(const StreamGate& gate) override;
  void Open(StreamGate& gate) override;
  void Copy(const void* from, void* to, int64_t bytes) override;
  void Call(std::function<void()> what) override;
  void Finish() override;
  // Returns when what this stream waits for is sure to come (SetBeforeFinish).
  void Settle() {
    if (settle_) settle_();
  }
  void SetBeforeFinish(std::function<void()> settle) override { settle_ = std::move(settle); }

 private:
  cudaStream_t stream_ = nullptr;
  std::function<void()> settle_;
};

// A gate for streams of any device: a word of pinned host memory, which the host opens by a store.
std::unique_ptr<StreamGate> NewGate();

}  // namespace sluice::ops::cuda
