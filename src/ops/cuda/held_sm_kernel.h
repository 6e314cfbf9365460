#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace sluice::ops::cuda {

// In the host's memory, mapped: what host and kernel say to one another. Tickets are counted up.
struct HeldSmWords {
  uint32_t released = 0;  // by the host: the last ticket that need not be held any longer
  uint32_t begun = 0;     // by the kernel
  uint32_t ended = 0;     // by the kernel
};

// One block, which fills an SM as far as a kernel is concerned that fills it too, until `ticket` is released,
// but not for longer than `limit_ns`.
cudaError_t LaunchHold(HeldSmWords* words, uint32_t ticket, int64_t limit_ns, cudaStream_t stream);

}  // namespace sluice::ops::cuda
