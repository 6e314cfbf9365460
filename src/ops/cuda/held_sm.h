#pragma once

#include <cstdint>
#include <mutex>

#include "ops/cuda/held_sm_kernel.h"
#include "ops/cuda/stream.h"

namespace sluice::ops::cuda {

// An SM occupied by a kernel that only waits, as a receive of NCCL occupies one until its peer comes: kept to
// compare with receives that hold none. A kernel lets go of it after kLongest at the latest, whatever
// happens: device memory that is freed meanwhile waits for it. Thread-safe.
class HeldSm {
 public:
  static constexpr int64_t kLongestNs = 2'000'000'000;

  // On the current device.
  HeldSm();
  ~HeldSm();
  HeldSm(const HeldSm&) = delete;
  HeldSm& operator=(const HeldSm&) = delete;

  // One more wants it held, one less. Begin makes the SM's device the thread's.
  void Begin();
  void End();
  // Whether the kernel is on its SM.
  bool Occupied() const;
  // The kernel's.
  cudaStream_t stream() const { return stream_; }

 private:
  int device_ = 0;
  const Stream stream_;
  volatile HeldSmWords* words_ = nullptr;
  std::mutex mutex_;
  int wanted_ = 0;
  uint32_t ticket_ = 0;
};

}  // namespace sluice::ops::cuda
