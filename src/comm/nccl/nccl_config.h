#pragma once

#include "tensor/memory.h"

namespace sluice::comm {

// How a rank's NCCL transfers use its GPU.
struct NcclConfig {
  int device = 0;  // CUDA's number of this rank's GPU; no two ranks of a world may have the same one
  // At most so many channels, thread blocks that each occupy an SM while a transfer runs or waits, for every
  // communicator below; 0 leaves it to NCCL.
  int max_channels = 0;
  // Asks for CTA policy zero: all-gathers and all-to-alls of equal parts between registered windows are moved
  // by copy engines and occupy no SM. Where NCCL cannot (other buffers, GPUs without a direct link) it uses
  // its kernels.
  bool zero_cta = false;
  // What the communicators say of their memory(), which is that of `device`; null: the host's, for tests that
  // allocate by themselves.
  Memory* memory = nullptr;
};

}  // namespace sluice::comm
