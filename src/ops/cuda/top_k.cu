#include "ops/cuda/top_k.h"

// A radix selection: the threshold's bits from the top down, 11 + 11 + 10, each from a histogram of the
// scores that agree with the bits found so far; then one pass in ascending order writes what lies above it,
// and of what equals it as many as are missing.
namespace sluice::ops::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kBuckets = 2048;

// Larger floats have larger keys.
__device__ uint32_t KeyOf(float score) {
  const uint32_t bits = __float_as_uint(score);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

struct Shared {
  int32_t histogram[kBuckets];
  int32_t warp_sums[kWarps];
  uint32_t threshold;
  int32_t wanted;
};

// Sum over the threads before this one; `total` is that over all. Every thread calls it.
__device__ int32_t SumBefore(int32_t value, Shared& shared, int32_t* total) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  int32_t sum = value;
  for (int step = 1; step < 32; step *= 2) {
    const int32_t other = __shfl_up_sync(~0U, sum, step);
    if (lane >= step) sum += other;
  }
  __syncthreads();
  if (lane == 31) shared.warp_sums[warp] = sum;
  __syncthreads();
  int32_t before = 0;
  *total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += shared.warp_sums[w];
    *total += shared.warp_sums[w];
  }
  return before + sum - value;
}

// Finds the bucket in which the `wanted` largest end, adds its bits to the threshold and leaves in `wanted`
// how many of the bucket are among them. Two buckets for each thread, the largest first.
__device__ void TakeBucket(int shift, Shared& shared) {
  const int largest = kBuckets - 1 - 2 * static_cast<int>(threadIdx.x);
  const int32_t first = shared.histogram[largest];
  const int32_t second = shared.histogram[largest - 1];
  const int32_t wanted = shared.wanted;
  int32_t total = 0;
  const int32_t before = SumBefore(first + second, shared, &total);
  __syncthreads();
  for (int i = 0; i < 2; ++i) {
    const int32_t above = i == 0 ? before : before + first;
    const int32_t here = i == 0 ? first : second;
    if (above < wanted && wanted <= above + here) {
      shared.threshold |= static_cast<uint32_t>(largest - i) << shift;
      shared.wanted = wanted - above;
    }
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads) SelectKernel(const TopK work) {
  __shared__ Shared shared;
  const int64_t row = blockIdx.x;
  const int32_t visible = work.positions[row] + 1;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  int32_t* out = work.selection + row * work.top_k;
  if (visible <= work.top_k) {
    for (int32_t i = thread; i < work.top_k; i += kThreads) out[i] = i < visible ? i : -1;
    return;
  }
  const float* scores = work.scores + row * work.scores_stride;
  if (thread == 0) {
    shared.threshold = 0;
    shared.wanted = work.top_k;
  }
  int width = 11;
  for (int shift = 21; shift >= 0; shift -= width) {
    for (int i = thread; i < kBuckets; i += kThreads) shared.histogram[i] = 0;
    __syncthreads();
    const uint32_t threshold = shared.threshold;
    const uint32_t found = shift == 21 ? 0U : ~0U << (shift + width);  // bits of the threshold that are known
    for (int32_t s = thread; s < visible; s += kThreads) {
      const float score = scores[s];
      if (shift == 21 && score != score) {
        work.not_a_number[0] = static_cast<int32_t>(row);
        work.not_a_number[1] = s;
      }
      const uint32_t key = KeyOf(score);
      if ((key & found) == threshold) atomicAdd(&shared.histogram[key >> shift & ((1U << width) - 1)], 1);
    }
    __syncthreads();
    TakeBucket(shift, shared);
    if (shift == 10) width = 10;
  }
  // Of what equals the threshold the lowest positions.
  const uint32_t threshold = shared.threshold;
  const int32_t equals_wanted = shared.wanted;
  int32_t written = 0;
  int32_t equals = 0;
  for (int32_t begin = 0; begin < visible; begin += kThreads) {
    const int32_t s = begin + thread;
    const uint32_t key = s < visible ? KeyOf(scores[s]) : 0;
    const bool equal = s < visible && key == threshold;
    int32_t total_equal = 0;
    const int32_t equal_before = equals + SumBefore(equal ? 1 : 0, shared, &total_equal);
    const bool taken = s < visible && (key > threshold || (equal && equal_before < equals_wanted));
    int32_t total = 0;
    const int32_t place = written + SumBefore(taken ? 1 : 0, shared, &total);
    if (taken) out[place] = s;
    equals += total_equal;
    written += total;
  }
}

}  // namespace

cudaError_t Enqueue(const TopK& work, cudaStream_t stream) {
  if (work.rows == 0) return cudaSuccess;
  SelectKernel<<<static_cast<unsigned>(work.rows), kThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
