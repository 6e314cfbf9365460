#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "comm/nccl/nccl_config.h"

// CUDA's and NCCL's objects with C++ lifetimes, and their errors as sentences.
namespace sluice::comm {

// Throws Error(kInternal) naming the call and CUDA's words unless `error` is success.
void CheckCuda(cudaError_t error, const char* call);

// Makes `device` this thread's current one until the end of the scope; then again the one before, if this
// process uses that.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
};

// A stream of the current device that does not wait for the default stream.
class DeviceStream {
 public:
  DeviceStream();
  ~DeviceStream();
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// An event of the current device, without timing.
class DeviceEvent {
 public:
  DeviceEvent();
  ~DeviceEvent();
  DeviceEvent(const DeviceEvent&) = delete;
  DeviceEvent& operator=(const DeviceEvent&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Device memory that a window can be registered over (ncclMemAlloc). 0 bytes are legal.
class NcclMemory {
 public:
  // On the current device. Throws Error(kMemory) naming the bytes when there are not so many.
  explicit NcclMemory(size_t bytes);
  ~NcclMemory();
  NcclMemory(const NcclMemory&) = delete;
  NcclMemory& operator=(const NcclMemory&) = delete;
  std::span<std::byte> bytes() const { return {static_cast<std::byte*>(data_), bytes_}; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Lets this thread's sleeps end when they should and not some 50 us later, until the end of the scope.
class ShortNaps {
 public:
  ShortNaps();
  ~ShortNaps();
  ShortNaps(const ShortNaps&) = delete;
  ShortNaps& operator=(const ShortNaps&) = delete;

 private:
  const int before_;  // nanoseconds
};

// NCCL's unique id, and a new one. Throws Error(kNetwork) with NCCL's words when it finds no interface.
ncclUniqueId NewNcclId();

// Throws Error(kUsage) when NCCL is not found at run time, or is older than the one this program was built
// with.
void CheckNcclVersion();
// The same, and when the device is not there or a channel count is negative.
void CheckNcclConfig(const NcclConfig& config, int rank);

// One NCCL communicator, non-blocking: no call of NCCL's waits for a peer; what takes longer is polled with
// short sleeps and ends when the communicator is aborted. Thread-safe.
class NcclComm {
 public:
  // Begins; AwaitReady completes it. This rank stands at `place` of `members`, ranks of the world.
  NcclComm(const ncclUniqueId& id, std::vector<int> members, int place, const NcclConfig& config);
  // After success tells NCCL that this rank is done, for at most two seconds; otherwise aborts.
  ~NcclComm();
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;

  const std::vector<int>& members() const { return members_; }

  // Asked now and then by what may take longer; once it says true, ncclInProgress is returned, as it is when
  // the communicator was aborted meanwhile.
  using GiveUp = std::function<bool()>;
  ncclResult_t AwaitReady(const GiveUp& give_up);
  // Calls `enqueue` with the communicator and waits until NCCL has put on the stream what it enqueued. One at
  // a time.
  ncclResult_t Run(const std::function<ncclResult_t(ncclComm_t)>& enqueue, const GiveUp& give_up);

  // The state of what was enqueued: ncclSuccess unless something broke. Cheap.
  ncclResult_t AsyncError();
  // NCCL's words for a result, and for what happened last.
  std::string Words(ncclResult_t result);

  // Ends what runs on the device and gives everything back. Repeatable; returns when it is done.
  void Abort();

 private:
  ncclResult_t Settle(ncclResult_t result, const GiveUp& give_up);

  const std::vector<int> members_;
  const int device_;
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;
  ncclComm_t comm_ = nullptr;  // null once aborted
  bool broken_ = false;
};

}  // namespace sluice::comm
