#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace sluice::bench {

// Blocks that hold an SM each beside a kernel that is measured, as the kernel of a receive does that waits or
// is long: 512 threads and 200 KB of shared memory, so no two are on one SM and none shares its SM with a
// block of a persistent kernel. Each copies from device memory to device memory all the while.
class Neighbours {
 public:
  static constexpr int kMost = 8;
  static constexpr int64_t kLongestNs = 4'000'000'000;  // they end by themselves after that

  // Calls return what CUDA says.
  cudaError_t Prepare();
  ~Neighbours();
  Neighbours() = default;
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;
  // Starts `count` on a stream of their own; each is on its SM when this returns.
  cudaError_t Begin(int count);
  // Ends them and waits until they are gone.
  cudaError_t End();

 private:
  struct Words;
  cudaStream_t stream_ = nullptr;
  Words* words_ = nullptr;  // in the host's memory, mapped
  uint4* from_ = nullptr;
  uint4* to_ = nullptr;
  uint32_t ticket_ = 0;
};

}  // namespace sluice::bench
