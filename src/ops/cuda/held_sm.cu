#include "ops/cuda/held_sm_kernel.h"

namespace sluice::ops::cuda {
namespace {

// With 16 registers each, more than a block of the persistent kernels leaves free.
constexpr int kThreads = 512;

__device__ int64_t DeviceNanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return static_cast<int64_t>(now);
}

// One thread alone looks at the host's memory, and seldom: many that poll slow everybody's traffic.
__global__ void __launch_bounds__(kThreads)
    HoldKernel(volatile HeldSmWords* words, uint32_t ticket, int64_t limit_ns) {
  if (threadIdx.x == 0) {
    words->begun = ticket;
    const int64_t begin = DeviceNanoseconds();
    while (static_cast<int32_t>(words->released - ticket) < 0 && DeviceNanoseconds() - begin < limit_ns) {
      __nanosleep(2000);
    }
    words->ended = ticket;
    __threadfence_system();
  }
  __syncthreads();
}

}  // namespace

cudaError_t LaunchHold(HeldSmWords* words, uint32_t ticket, int64_t limit_ns, cudaStream_t stream) {
  HoldKernel<<<1, kThreads, 0, stream>>>(words, ticket, limit_ns);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
