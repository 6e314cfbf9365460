#include "ops/cuda/ordered_key.cuh"
#include "ops/cuda/sampling.h"

namespace sluice::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kTokens = 1024;  // of a block whose exponentials are summed before blocks are merged
constexpr int kOfThread = kTokens / kThreads;

struct Part {
  double sum = 0.0;      // of exp(logit - largest) over the block; 0 where nothing is finite
  float largest = 0.0F;  // -infinity where nothing is finite
  int32_t fault = -1;    // the lowest token that is NaN or +infinity
};

__host__ __device__ int32_t PartsOf(int32_t vocabulary) { return (vocabulary + kTokens - 1) / kTokens; }
// Every block's greedy token is wanted, whatever `top`.
__host__ __device__ int32_t KeysOf(int32_t top) { return top > 1 ? top : 1; }

// Workspace: parts [rows, parts], then keys [rows, parts, KeysOf(top)], each block's largest, descending.
__host__ __device__ Part* PartsIn(const Likelihoods& work) { return static_cast<Part*>(work.workspace); }
__host__ __device__ uint64_t* KeysIn(const Likelihoods& work) {
  return reinterpret_cast<uint64_t*>(PartsIn(work) + work.rows * PartsOf(work.vocabulary));
}

// The largest over the block; every thread calls it and gets it.
__device__ uint64_t LargestOfBlock(uint64_t key, uint64_t* shared) {
  key = LargestOfWarp(key);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = key;
  __syncthreads();
  return LargestOfWarp(shared[threadIdx.x % kWarps]);
}

__device__ double SumOfBlock(double value, double* shared) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0U, value, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  value = shared[threadIdx.x % kWarps];
  for (int step = kWarps / 2; step > 0; step /= 2) value += __shfl_xor_sync(~0U, value, step);
  return value;
}

// One block of threads for each row and block of 1,024 tokens.
__global__ void __launch_bounds__(kThreads) PartsKernel(const Likelihoods work) {
  __shared__ uint64_t shared_keys[kWarps];
  __shared__ double shared_sums[kWarps];
  const int64_t row = blockIdx.x;
  const int64_t part = row * gridDim.y + blockIdx.y;
  const float* logits = work.logits + row * work.logits_stride;
  const auto first = static_cast<int32_t>(blockIdx.y * kTokens + threadIdx.x);
  float values[kOfThread];
  uint64_t keys[kOfThread];  // 0: no token, or taken
  uint64_t fault = 0;
  for (int i = 0; i < kOfThread; ++i) {
    const int32_t token = first + i * kThreads;
    const bool inside = token < work.vocabulary;
    values[i] = inside ? logits[token] : -INFINITY;
    keys[i] = inside ? KeyOf(values[i], token) : 0;
    if (!(values[i] < INFINITY)) fault = max(fault, KeyOf(0.0F, token));  // of these the lowest id
  }
  fault = LargestOfBlock(fault, shared_keys);
  for (int k = 0; k < KeysOf(work.top); ++k) {
    uint64_t largest = 0;
    for (const uint64_t key : keys) largest = max(largest, key);
    largest = LargestOfBlock(largest, shared_keys);
    for (uint64_t& key : keys) {
      if (key == largest) key = 0;
    }
    if (threadIdx.x == 0) KeysIn(work)[part * KeysOf(work.top) + k] = largest;
    if (k == 0) {
      const float top = ValueOf(largest);
      double sum = 0.0;
      if (top > -INFINITY) {
        for (const float value : values) sum += exp(static_cast<double>(value) - static_cast<double>(top));
      }
      sum = SumOfBlock(sum, shared_sums);
      if (threadIdx.x == 0) PartsIn(work)[part] = {sum, top, fault == 0 ? -1 : IdOf(fault)};
    }
  }
}

// One block of threads for each row: merges its parts in order, then takes the largest of all.
__global__ void __launch_bounds__(kThreads) MergeKernel(const Likelihoods work) {
  __shared__ uint64_t shared_keys[kWarps];
  __shared__ double log_sum;
  __shared__ double chunk[kThreads];
  const int64_t row = blockIdx.x;
  const int32_t parts = PartsOf(work.vocabulary);
  const int keys_of_part = KeysOf(work.top);
  const Part* part = PartsIn(work) + row * parts;
  const uint64_t* keys = KeysIn(work) + row * parts * keys_of_part;

  uint64_t largest = 0;
  uint64_t fault = 0;
  for (int p = threadIdx.x; p < parts; p += kThreads) {
    largest = max(largest, keys[p * keys_of_part]);
    if (part[p].fault >= 0) fault = max(fault, KeyOf(0.0F, part[p].fault));
  }
  largest = LargestOfBlock(largest, shared_keys);
  fault = LargestOfBlock(fault, shared_keys);
  const double top = ValueOf(largest);
  double sum = 0.0;  // of thread 0
  for (int begin = 0; begin < parts; begin += kThreads) {
    const int p = begin + static_cast<int>(threadIdx.x);
    chunk[threadIdx.x] = p < parts && part[p].sum > 0.0 ? part[p].sum * exp(part[p].largest - top) : 0.0;
    __syncthreads();
    for (int i = 0; i < kThreads && threadIdx.x == 0; ++i) sum += chunk[i];
    __syncthreads();
  }
  if (threadIdx.x == 0) log_sum = top + log(sum);
  __syncthreads();
  const auto logprob = [](float logit) { return static_cast<float>(static_cast<double>(logit) - log_sum); };
  if (threadIdx.x == 0) {
    const int32_t greedy = IdOf(largest);
    const int32_t target = work.targets == nullptr ? greedy : work.targets[row];
    work.greedy[row] = greedy;
    work.log_sum[row] = log_sum;
    work.logprobs[row] = target < 0 ? 0.0F : logprob(work.logits[row * work.logits_stride + target]);
    const bool none = !(top > -INFINITY);
    work.faults[row] = fault != 0 ? IdOf(fault) : none ? work.vocabulary : -1;
  }
  // What comes next is the largest key below the last one taken.
  for (int k = 0; k < work.top; ++k) {
    if (threadIdx.x == 0) {
      work.top_ids[row * work.top + k] = IdOf(largest);
      work.top_logprobs[row * work.top + k] = logprob(ValueOf(largest));
    }
    if (k + 1 == work.top) break;
    uint64_t next = 0;
    for (int i = threadIdx.x; i < parts * keys_of_part; i += kThreads) {
      if (keys[i] < largest) next = max(next, keys[i]);
    }
    largest = LargestOfBlock(next, shared_keys);
  }
}

}  // namespace

int64_t LikelihoodsBytes(int64_t rows, int32_t vocabulary, int32_t top) {
  return rows * PartsOf(vocabulary) *
         static_cast<int64_t>(sizeof(Part) + sizeof(uint64_t) * static_cast<size_t>(KeysOf(top)));
}

cudaError_t Enqueue(const Likelihoods& work, cudaStream_t stream) {
  if (work.vocabulary < 1 || work.top < 0 || work.top > kMostLogprobs || work.top > work.vocabulary ||
      reinterpret_cast<uintptr_t>(work.workspace) % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(work.rows), static_cast<unsigned>(PartsOf(work.vocabulary)));
  PartsKernel<<<grid, kThreads, 0, stream>>>(work);
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  MergeKernel<<<static_cast<unsigned>(work.rows), kThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
