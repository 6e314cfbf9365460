#pragma once

#include <cuda_runtime.h>

#include "ops/cuda/check.h"
#include "tensor/work_stream.h"

namespace sluice::ops::cuda {

// A mark on a stream of the current device, without timing.
class Event final : public StreamMark {
 public:
  explicit Event(unsigned flags = cudaEventDisableTiming) {
    Check(cudaEventCreateWithFlags(&event_, flags), "creating an event");
  }
  // One that is there: of another process's.
  explicit Event(cudaEvent_t opened) : event_(opened) {}
  ~Event() override { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace sluice::ops::cuda
