#include "ops/cuda/expert_plan.h"

namespace sluice::ops::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;

// The number of threads before this one for which it is true. Every thread calls it; `counts` has an entry
// for each warp.
__device__ int32_t CountBefore(bool value, int32_t* counts) {
  const uint32_t votes = __ballot_sync(~0U, value);
  const auto lane = static_cast<int>(threadIdx.x % 32);
  const auto warp = static_cast<int>(threadIdx.x / 32);
  __syncthreads();
  if (lane == 0) counts[warp] = __popc(votes);
  __syncthreads();
  int32_t before = __popc(votes & ((1U << lane) - 1));
  for (int w = 0; w < warp; ++w) before += counts[w];
  return before;
}

// Block e places the pairs of expert e behind those of the experts before it, which it counts itself. Without
// experts there is one block.
__global__ void __launch_bounds__(kThreads) PlanKernel(const PlanExperts work) {
  __shared__ int32_t counts[kWarps];
  const auto expert = static_cast<int32_t>(blockIdx.x);
  const int64_t choices = work.rows * work.top_k;
  // Relative to the first expert; whole blocks walk together.
  const auto id_at = [&](int64_t choice) {
    if (choice >= choices) return INT32_MAX;
    return work.ids[choice / work.top_k * work.ids_stride + choice % work.top_k] - work.first_expert;
  };
  int32_t begin = 0;
  for (int64_t first = 0; first < choices; first += kThreads) {
    const int64_t choice = first + threadIdx.x;
    const int32_t id = id_at(choice);
    begin += __syncthreads_count(id >= 0 && id < expert);
    if (expert == 0 && choice < choices && (id < 0 || id >= work.experts)) {
      work.pair_of[choice / work.top_k * work.pair_of_stride + choice % work.top_k] = -1;
    }
  }
  int32_t end = begin;
  for (int64_t first = 0; first < choices; first += kThreads) {
    const int64_t choice = first + threadIdx.x;
    const bool mine = expert < work.experts && id_at(choice) == expert;
    const int32_t pair = end + CountBefore(mine, counts);
    end += __syncthreads_count(mine);
    if (!mine) continue;
    const int64_t row = choice / work.top_k;
    work.pair_rows[pair] = static_cast<int32_t>(row);
    work.pair_of[row * work.pair_of_stride + choice % work.top_k] = pair;
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
