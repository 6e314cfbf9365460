#pragma once

#include <cuda_runtime.h>

#include "ops/cuda/check.h"

namespace sluice::bench {

// A point on a stream, and the time of the device between two of them.
class Event {
 public:
  Event() { ops::cuda::Check(cudaEventCreate(&event_), "creating an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void Record(cudaStream_t stream) {
    ops::cuda::Check(cudaEventRecord(event_, stream), "recording an event");
  }
  // Both are complete.
  double MsSince(const Event& begin) const {
    float ms = 0.0F;
    ops::cuda::Check(cudaEventElapsedTime(&ms, begin.event_, event_), "reading an event");
    return ms;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace sluice::bench
