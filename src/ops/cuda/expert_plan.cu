#include "ops/cuda/expert_plan.h"

namespace sluice::ops::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;

// The sum over the threads before this one, and over all of them. Every thread calls it; `sums` has an entry
// for each warp.
struct Sum {
  int32_t before;
  int32_t all;
};
__device__ Sum SumOverThreads(int32_t value, int32_t* sums) {
  const auto lane = static_cast<int>(threadIdx.x % 32);
  const auto warp = static_cast<int>(threadIdx.x / 32);
  int32_t up_to = value;  // this thread, within its warp
  for (int step = 1; step < 32; step *= 2) {
    const int32_t other = __shfl_up_sync(~0U, up_to, step);
    if (lane >= step) up_to += other;
  }
  __syncthreads();
  if (lane == 31) sums[warp] = up_to;
  __syncthreads();
  Sum sum{up_to - value, 0};
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) sum.before += sums[w];
    sum.all += sums[w];
  }
  return sum;
}

// Choices one after the other, row by row.
struct Cursor {
  const PlanExperts& work;
  int64_t row;
  int32_t k;

  __device__ Cursor(const PlanExperts& of, int64_t choice)
      : work(of), row(choice / of.top_k), k(static_cast<int32_t>(choice % of.top_k)) {}
  __device__ int32_t id() const { return work.ids[row * work.ids_stride + k] - work.first_expert; }
  __device__ int32_t& pair() const { return work.pair_of[row * work.pair_of_stride + k]; }
  __device__ void Next() {
    if (++k < work.top_k) return;
    k = 0;
    ++row;
  }
};

// Block e places the pairs of expert e behind those of the experts before it, which it counts itself. Without
// experts there is one block. A thread has a stretch of neighbouring choices: what it counts in a first walk
// says where those of its second go, in their order.
__global__ void __launch_bounds__(kThreads) PlanKernel(const PlanExperts work) {
  __shared__ int32_t sums[kWarps];
  const auto expert = static_cast<int32_t>(blockIdx.x);
  const int64_t choices = work.rows * work.top_k;
  const int64_t stretch = (choices + kThreads - 1) / kThreads;
  const int64_t first = min(choices, threadIdx.x * stretch);
  const int64_t last = min(choices, first + stretch);
  int32_t smaller = 0;
  int32_t mine = 0;
  Cursor at(work, first);
  for (int64_t choice = first; choice < last; ++choice, at.Next()) {
    const int32_t id = at.id();
    smaller += id >= 0 && id < expert ? 1 : 0;
    mine += id == expert ? 1 : 0;
    if (expert == 0 && (id < 0 || id >= work.experts)) at.pair() = -1;
  }
  if (expert >= work.experts) mine = 0;
  const int32_t begin = SumOverThreads(smaller, sums).all;
  const Sum placed = SumOverThreads(mine, sums);
  const int32_t end = begin + placed.all;
  if (mine > 0) {
    int32_t pair = begin + placed.before;
    Cursor again(work, first);
    for (int64_t choice = first; choice < last; ++choice, again.Next()) {
      if (again.id() != expert) continue;
      work.pair_rows[pair] = static_cast<int32_t>(again.row);
      again.pair() = pair++;
    }
  }
  if (threadIdx.x == 0 && expert < work.experts) work.groups[expert] = {begin, end, expert};
  if (expert + 1 < work.experts) return;
  for (int64_t pair = end + static_cast<int64_t>(threadIdx.x); pair < work.pairs; pair += kThreads) {
    work.pair_rows[pair] = -1;
  }
}

}  // namespace

cudaError_t Enqueue(const PlanExperts& work, cudaStream_t stream) {
  if (work.experts < 0 || work.top_k <= 0) return cudaErrorInvalidValue;
  const unsigned blocks = work.experts > 0 ? static_cast<unsigned>(work.experts) : 1U;
  PlanKernel<<<blocks, kThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
