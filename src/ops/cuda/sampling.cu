#include "ops/cuda/block_reduce.cuh"
#include "ops/cuda/ordered_key.cuh"
#include "ops/cuda/sampling.h"

namespace sluice::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTokens = 1024;  // of a block whose exponentials are summed before blocks are merged
constexpr int kOfThread = kTokens / kThreads;

constexpr int kGathered = 2048;

struct Part {
  double sum = 0.0;      // of exp(logit - largest) over the block; 0 where nothing is finite
  uint64_t largest = 0;  // key
  int32_t fault = -1;    // the lowest token that is NaN or +infinity
};

__host__ __device__ int32_t PartsOf(int32_t vocabulary) { return (vocabulary + kTokens - 1) / kTokens; }

// One block of threads for each row and block of 1,024 tokens.
__global__ void __launch_bounds__(kThreads) PartsKernel(const Likelihoods work) {
  __shared__ uint64_t shared_keys[kThreads / 32];
  __shared__ uint64_t shared_faults[kThreads / 32];
  __shared__ double shared_sums[kThreads / 32];
  const int64_t row = blockIdx.x;
  const float* logits = work.logits + row * work.logits_stride;
  const auto first = static_cast<int32_t>(blockIdx.y * kTokens + threadIdx.x);
  float values[kOfThread];
  uint64_t largest = 0;
  uint64_t fault = 0;
  for (int i = 0; i < kOfThread; ++i) {
    const int32_t token = first + i * kThreads;
    const bool inside = token < work.vocabulary;
    values[i] = inside ? logits[token] : -INFINITY;
    if (inside) largest = max(largest, KeyOf(values[i], token));
    if (!(values[i] < INFINITY)) fault = max(fault, KeyOf(0.0F, token));  // of these the lowest id
  }
  largest = LargestOfBlock<kThreads>(largest, shared_keys);
  if (__syncthreads_or(static_cast<int>(fault != 0)) != 0) {
    fault = LargestOfBlock<kThreads>(fault, shared_faults);
  }
  const float top = ValueOf(largest);
  double sum = 0.0;
  if (top > -INFINITY) {
    for (const float value : values) sum += exp(static_cast<double>(value) - static_cast<double>(top));
  }
  sum = SumOfBlock<kThreads>(sum, shared_sums);
  if (threadIdx.x == 0) {
    static_cast<Part*>(work.workspace)[row * gridDim.y + blockIdx.y] = {sum, largest,
                                                                        fault == 0 ? -1 : IdOf(fault)};
  }
}

// The `count` largest keys of a row, one after the other, by all threads of the block. Of so many parts at
// most do any of these come, and none is below the least of these parts' largest.
template <typename Take>
__device__ void ForLargest(const Part* parts, int32_t part_count, const float* logits, int32_t vocabulary,
                           uint64_t largest, int32_t count, const Take& take) {
  __shared__ uint64_t shared_keys[kThreads / 32];
  __shared__ uint64_t gathered[kGathered];
  __shared__ int32_t gathered_count;
  __shared__ int32_t chosen[kMostLogprobs];  // parts
  __shared__ int32_t chosen_count;
  uint64_t least = largest;
  for (int k = 1; k < min(count, part_count); ++k) {
    uint64_t next = 0;
    for (int p = threadIdx.x; p < part_count; p += kThreads) {
      if (parts[p].largest < least) next = max(next, parts[p].largest);
    }
    least = LargestOfBlock<kThreads>(next, shared_keys);
  }
  if (part_count < count) least = 0;
  if (threadIdx.x == 0) gathered_count = 0, chosen_count = 0;
  __syncthreads();
  for (int p = threadIdx.x; p < part_count; p += kThreads) {
    if (parts[p].largest >= least) chosen[atomicAdd(&chosen_count, 1)] = p;
  }
  __syncthreads();
  const int32_t chosen_parts = chosen_count;
  const auto for_keys = [&](const auto& with) {
    for (int c = 0; c < chosen_parts; ++c) {
#pragma unroll
      for (int i = 0; i < kOfThread; ++i) {
        const int32_t token = chosen[c] * kTokens + i * kThreads + static_cast<int32_t>(threadIdx.x);
        if (token >= vocabulary) continue;
        const uint64_t key = KeyOf(logits[token], token);
        if (key >= least) with(key);
      }
    }
  };
  for_keys([&](uint64_t key) {
    const int32_t at = atomicAdd(&gathered_count, 1);
    if (at < kGathered) gathered[at] = key;
  });
  __syncthreads();
  const int32_t found = gathered_count;
  for (int k = 0; k < count; ++k) {
    take(k, largest);
    if (k + 1 == count) break;
    uint64_t next = 0;
    const auto look = [&](uint64_t key) {
      if (key < largest) next = max(next, key);
    };
    if (found <= kGathered) {
      for (int i = threadIdx.x; i < found; i += kThreads) look(gathered[i]);
    } else {
      for_keys(look);  // many equals
    }
    largest = LargestOfBlock<kThreads>(next, shared_keys);
  }
}

// One block of threads for each row: merges its parts in order, then takes the largest of all.
__global__ void __launch_bounds__(kThreads) MergeKernel(const Likelihoods work) {
  __shared__ uint64_t shared_keys[kThreads / 32];
  __shared__ double log_sum;
  __shared__ double chunk[kThreads];
  const int64_t row = blockIdx.x;
  const int32_t parts = PartsOf(work.vocabulary);
  const WantedOfRow wanted = work.wanted[row];
  const Part* part = static_cast<const Part*>(work.workspace) + row * parts;
  const float* logits = work.logits + row * work.logits_stride;

  uint64_t largest = 0;
  uint64_t fault = 0;
  for (int p = threadIdx.x; p < parts; p += kThreads) {
    largest = max(largest, part[p].largest);
    if (part[p].fault >= 0) fault = max(fault, KeyOf(0.0F, part[p].fault));
  }
  largest = LargestOfBlock<kThreads>(largest, shared_keys);
  fault = LargestOfBlock<kThreads>(fault, shared_keys);
  const double top = ValueOf(largest);
  double sum = 0.0;  // of thread 0
  for (int begin = 0; begin < parts; begin += kThreads) {
    const int p = begin + static_cast<int>(threadIdx.x);
    chunk[threadIdx.x] =
        p < parts && part[p].sum > 0.0 ? part[p].sum * exp(ValueOf(part[p].largest) - top) : 0.0;
    __syncthreads();
    for (int i = 0; i < kThreads && threadIdx.x == 0; ++i) sum += chunk[i];
    __syncthreads();
  }
  if (threadIdx.x == 0) log_sum = top + log(sum);
  __syncthreads();
  const auto logprob = [](float logit) { return static_cast<float>(static_cast<double>(logit) - log_sum); };
  if (threadIdx.x == 0) {
    const int32_t greedy = IdOf(largest);
    const int32_t target = wanted.target == WantedOfRow::kGreedy ? greedy : wanted.target;
    work.greedy[row] = greedy;
    work.log_sum[row] = log_sum;
    work.logprobs[row] = target < 0 ? 0.0F : logprob(logits[target]);
    const bool none = !(top > -INFINITY);
    work.faults[row] = fault != 0 ? IdOf(fault) : none ? work.vocabulary : -1;
  }
  if (wanted.top == 0) return;
  ForLargest(part, parts, logits, work.vocabulary, largest, wanted.top, [&](int k, uint64_t key) {
    if (threadIdx.x != 0) return;
    work.top_ids[row * work.top + k] = IdOf(key);
    work.top_logprobs[row * work.top + k] = logprob(ValueOf(key));
  });
}

}  // namespace

int64_t LikelihoodsBytes(int64_t rows, int32_t vocabulary) {
  return rows * PartsOf(vocabulary) * static_cast<int64_t>(sizeof(Part));
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
