#pragma once

#include <cstdint>

namespace sluice::ops::cuda {

// Where a ring of slots with a pair of mbarriers each stands: the parity turns each time it comes round.
template <int kSlots>
struct Ring {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void Next() {
    if (++slot == kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }
};

}  // namespace sluice::ops::cuda
