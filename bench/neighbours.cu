#include "neighbours.h"

namespace sluice::bench {

// What host and blocks say to one another. Tickets are counted up.
struct Neighbours::Words {
  volatile uint32_t released = 0;  // by the host
  volatile uint32_t begun[kMost] = {};
};

namespace {

constexpr int kThreads = 512;
constexpr int kSharedBytes = 200 * 1024;
constexpr int kAtOnce = 8;                                // of 16 bytes, by a thread
constexpr int kStep = kThreads * kAtOnce;                 // by a block
constexpr int kSteps = 256;                               // then from the beginning again
constexpr int64_t kBytes = int64_t{kStep} * kSteps * 16;  // of a block

__device__ int64_t DeviceNanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return static_cast<int64_t>(now);
}

// One thread alone looks at the host's memory, and seldom: many that poll slow everybody's traffic.
__global__ void __launch_bounds__(kThreads)
    NeighbourKernel(const volatile uint32_t* released, volatile uint32_t* begun, uint32_t ticket,
                    const uint4* from, uint4* to, int64_t limit_ns) {
  __shared__ bool ends;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kStep * kSteps + threadIdx.x;
  int64_t begin = 0;
  if (threadIdx.x == 0) {
    begin = DeviceNanoseconds();
    begun[blockIdx.x] = ticket;
    __threadfence_system();
  }
  for (int step = 0;; step = (step + 1) % kSteps) {
    if (step % 64 == 0) {
      if (threadIdx.x == 0) {
        ends = static_cast<int32_t>(*released - ticket) >= 0 || DeviceNanoseconds() - begin > limit_ns;
      }
      __syncthreads();
      const bool end = ends;
      __syncthreads();
      if (end) return;
    }
    uint4 value[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) value[i] = from[first + step * kStep + i * kThreads];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) to[first + step * kStep + i * kThreads] = value[i];
  }
}

}  // namespace

cudaError_t Neighbours::Prepare() {
  cudaError_t error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  void* words = nullptr;
  if (error == cudaSuccess) error = cudaHostAlloc(&words, sizeof(Words), cudaHostAllocMapped);
  if (error == cudaSuccess) words_ = new (words) Words;
  if (error == cudaSuccess) error = cudaMalloc(&from_, kMost * kBytes);
  if (error == cudaSuccess) error = cudaMalloc(&to_, kMost * kBytes);
  if (error == cudaSuccess) error = cudaMemset(from_, 0, kMost * kBytes);
  if (error == cudaSuccess) {
    error = cudaFuncSetAttribute(NeighbourKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  }
  return error;
}

Neighbours::~Neighbours() {
  if (words_ != nullptr) End();
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
  cudaFreeHost(words_);
  cudaFree(from_);
  cudaFree(to_);
}

cudaError_t Neighbours::Begin(int count) {
  ++ticket_;
  NeighbourKernel<<<count, kThreads, kSharedBytes, stream_>>>(&words_->released, words_->begun, ticket_,
                                                              from_, to_, kLongestNs);
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  for (int block = 0; block < count; ++block) {
    while (words_->begun[block] != ticket_) {
      // Over without having begun: it failed.
      if (const cudaError_t error = cudaStreamQuery(stream_); error != cudaErrorNotReady) {
        if (words_->begun[block] != ticket_) return error == cudaSuccess ? cudaErrorUnknown : error;
      }
    }
  }
  return cudaSuccess;
}

cudaError_t Neighbours::End() {
  words_->released = ticket_;
  return cudaStreamSynchronize(stream_);
}

}  // namespace sluice::bench
