#include "ops/cuda/ordered_key.cuh"
#include "ops/cuda/route.h"
#include "ops/cuda/row_math.cuh"

namespace sluice::ops::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kFewExperts = 256;  // with which a warp does a fraction of the work that the most need

__device__ float SumOfTwoLargest(const float* values, int count) {
  float first = values[0];
  float second = count > 1 ? values[1] : 0.0F;
  if (count > 1 && second > first) {
    first = values[1];
    second = values[0];
  }
  for (int i = 2; i < count; ++i) {
    if (values[i] > first) {
      second = first;
      first = values[i];
    } else if (values[i] > second) {
      second = values[i];
    }
  }
  return first + second;
}

// Bit g: group g is kept. Lane g holds the key of group g.
__device__ uint32_t KeptGroups(const Route& work, const float* choice, int lane) {
  if (work.top_groups == work.groups) return ~0U;
  const int size = work.experts / work.groups;
  const uint64_t mine = lane < work.groups ? KeyOf(SumOfTwoLargest(choice + lane * size, size), lane) : 0;
  int above = 0;
  for (int g = 0; g < work.groups; ++g) above += __shfl_sync(~0U, mine, g) > mine ? 1 : 0;
  return __ballot_sync(~0U, lane < work.groups && above < work.top_groups);
}

// One warp for each row; up to kExperts.
template <int kExperts>
__global__ void __launch_bounds__(32 * kWarps) RouteKernel(const Route work) {
  constexpr int kOfLane = kExperts / 32;
  __shared__ float shared_p[kWarps][kExperts];
  __shared__ float shared_choice[kWarps][kExperts];
  const auto warp = static_cast<int>(threadIdx.x / 32);
  const auto lane = static_cast<int>(threadIdx.x % 32);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (row >= work.rows) return;
  float* p = shared_p[warp];
  float* choice = shared_choice[warp];
  for (int e = lane; e < work.experts; e += 32) {
    p[e] = Sigmoid(work.logits[row * work.logits_stride + e]);
    choice[e] = p[e] + work.bias[e];
  }
  __syncwarp();

  const uint32_t kept = KeptGroups(work, choice, lane);
  const int group_size = work.experts / work.groups;
  uint64_t keys[kOfLane];  // of experts lane, lane + 32, ...; 0: not to be had
  for (int i = 0; i < kOfLane; ++i) {
    const int e = lane + 32 * i;
    const bool candidate = e < work.experts && (kept >> e / group_size & 1U) != 0;
    keys[i] = candidate ? KeyOf(choice[e], e) : 0;
  }
  int32_t chosen = 0x7fffffff;  // lane i: the i-th largest
  for (int k = 0; k < work.top_k; ++k) {
    uint64_t largest = 0;
    for (const uint64_t key : keys) largest = max(largest, key);
    largest = LargestOfWarp(largest);
    for (uint64_t& key : keys) {
      if (key == largest) key = 0;
    }
    if (lane == k) chosen = IdOf(largest);
  }

  int place = 0;  // of mine among the chosen, ascending
  for (int k = 0; k < work.top_k; ++k) place += __shfl_sync(~0U, chosen, k) < chosen ? 1 : 0;
  float sum = 0.0F;
  const float mine = lane < work.top_k ? p[chosen] : 0.0F;
  for (int k = 0; k < work.top_k; ++k) {
    const uint32_t holder = __ballot_sync(~0U, lane < work.top_k && place == k);
    sum += __shfl_sync(~0U, mine, __ffs(static_cast<int>(holder)) - 1);
  }
  sum += 1e-20F;
  if (lane >= work.top_k) return;
  const float scaled = work.scale * mine;
  work.ids[row * work.ids_stride + place] = chosen;
  work.weights[row * work.weights_stride + place] = work.normalize ? scaled / sum : scaled;
}

bool IsLegal(const Route& work) {
  return work.experts >= 1 && work.experts <= kMostExperts && work.groups >= 1 && work.groups <= 32 &&
         work.experts % work.groups == 0 && work.top_groups >= 1 && work.top_groups <= work.groups &&
         work.top_k >= 1 && work.top_k <= 32 && work.top_k <= work.experts / work.groups * work.top_groups;
}

}  // namespace

cudaError_t Enqueue(const Route& work, cudaStream_t stream) {
  if (!IsLegal(work)) return cudaErrorInvalidValue;
  if (work.rows == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((work.rows + kWarps - 1) / kWarps);
  if (work.experts <= kFewExperts) {
    RouteKernel<kFewExperts><<<blocks, 32 * kWarps, 0, stream>>>(work);
  } else {
    RouteKernel<kMostExperts><<<blocks, 32 * kWarps, 0, stream>>>(work);
  }
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
