#pragma once

#include <cstdint>

#include "ops/cuda/ordered_key.cuh"

// Reductions over a block of `kThreads` threads, a power of two from 64 to 1,024, all of which call them and
// get the result. `shared`: kThreads / 32 values, free again at the block's next barrier.
namespace sluice::ops::cuda {

template <int kThreads>
__device__ uint64_t LargestOfBlock(uint64_t key, uint64_t* shared) {
  key = LargestOfWarp(key);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = key;
  __syncthreads();
  return LargestOfWarp(shared[threadIdx.x % (kThreads / 32)]);
}

// In one fixed tree.
template <int kThreads>
__device__ double SumOfBlock(double value, double* shared) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0U, value, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  value = shared[threadIdx.x % (kThreads / 32)];
  for (int step = kThreads / 64; step > 0; step /= 2) value += __shfl_xor_sync(~0U, value, step);
  return value;
}

}  // namespace sluice::ops::cuda
