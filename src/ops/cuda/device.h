#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "ops/ops.h"
#include "tensor/device_sharing.h"

// The GPU back end as the engine sees it. A build without a CUDA toolkit has the same functions; there they
// throw Error(kUsage) saying so.
namespace sluice::ops::cuda {

// GPUs that this process sees, of whatever kind; 0 where CUDA finds none.
int Devices();

// Throws Error(kUsage) with a sentence when GPU number `device` of this process is not one that the kernels
// were built for (compute capability 9.0: Hopper).
void CheckDevice(int device);

// The memory of a GPU; lives as long as the process. Throws as CheckDevice.
Memory& DeviceMemory(int device);

// That memory, and marks on the GPU's streams, as other processes of the host are shown them. Lives as long
// and throws as DeviceMemory.
DeviceSharing& SharingOf(int device);

// The host's memory, which GPU `device` copies from and to without another copy on the way. Taking it is
// slow: it is for buffers that are used again. Lives as long as the process. Throws as CheckDevice.
Memory& PinnedMemory(int device);

struct MemoryInfo {
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
  int64_t allocations = 0;  // of DeviceMemory since the start of the process
};
// What the driver says of a GPU's memory now; the first call makes the process's CUDA context, which takes
// some itself. Throws as CheckDevice.
MemoryInfo MemoryOf(int device);

// Gives back what this process holds of GPU `device`, its CUDA context first of all: for a process that only
// asked. Nothing of it may be in use, and nothing made on it before may be used after. Throws as CheckDevice.
void LeaveDevice(int device);

// A back end that computes on GPU `device`, on a stream of its own: for one rank, on one thread. Numerics are
// kFp8. Several of them may share a GPU. Throws as CheckDevice.
std::unique_ptr<Ops> MakeCudaOps(int device);

// For each of `holders` an SM of GPU `device` can be held, as a receive holds one whose kernel waits for its
// peer (ops/cuda/held_sm.h): from the call with its number until everything is gone that calls with it
// returned. Thread-safe. Throws as CheckDevice.
std::function<std::shared_ptr<void>(int holder)> MakeSmHolder(int device, int holders);

// Device memory that such a back end holds after Reserve(limits). Throws as CheckDevice.
int64_t OpsBytes(int device, const OpLimits& limits);

}  // namespace sluice::ops::cuda
