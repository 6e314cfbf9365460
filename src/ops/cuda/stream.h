#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "tensor/work_stream.h"

namespace sluice::ops::cuda {

// What a stream waits for until the host opens it: for benchmarks that hold a stream back. Ranks do not use
// it: work on another stream may stand behind one that waits for what nobody has begun
// (docs/decisions/gpu-hop.md).
class Gate {
 public:
  Gate();
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  void Open();  // once, from any thread

 private:
  friend class Stream;
  uint32_t* word_ = nullptr;  // of pinned memory: 1 when it is open
};

// A stream of the current device, for any thread; independent of the legacy stream; gone, after its work,
// with this object.
class Stream final : public WorkStream {
 public:
  // `for_copies`: its kernels, those of the driver's for copies within the device, come before those of other
  // streams where an SM is free for either.
  explicit Stream(bool for_copies = false);
  ~Stream() override;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }  // NOLINT(google-explicit-constructor)

  std::unique_ptr<StreamMark> Record() override;
  void WaitFor(const StreamMark& mark) override;
  // The gate stays until the stream has passed it.
  void WaitFor(const Gate& gate);
  void Copy(const void* from, void* to, int64_t bytes) override;
  void Call(std::function<void()> what) override;
  void Finish() override;
  void FinishUpTo(const StreamMark& mark) override;
  void SetBeforeFinish(std::function<void()> settle) override { settle_ = std::move(settle); }

 private:
  // A thread that uses the device for the first time would otherwise make a context on another one.
  void Use() const;

  int device_ = 0;
  cudaStream_t stream_ = nullptr;
  std::function<void()> settle_;
};

}  // namespace sluice::ops::cuda
