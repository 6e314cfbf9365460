#include <algorithm>

#include "ops/cuda/find_nan.h"

namespace sluice::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 4096;
constexpr int kCodes = 16;  // read at once

// Bit 7 of each byte of the result: whether the byte's other seven are all ones.
__device__ uint32_t NaNsOf(uint32_t codes) { return ((codes & 0x7f7f7f7fU) + 0x01010101U) & 0x80808080U; }

__global__ void __launch_bounds__(kThreads) FindNaNKernel(const FindNaN work) {
  const auto* codes = static_cast<const uint8_t*>(work.codes);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * kCodes;
  for (int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kCodes; at < work.count;
       at += step) {
    if (at + kCodes <= work.count) {
      const uint4 sixteen = *reinterpret_cast<const uint4*>(codes + at);
      if ((NaNsOf(sixteen.x) | NaNsOf(sixteen.y) | NaNsOf(sixteen.z) | NaNsOf(sixteen.w)) == 0) continue;
    }
    for (int64_t i = at; i < min(at + kCodes, work.count); ++i) {
      if ((codes[i] & 0x7f) != 0x7f) continue;
      atomicMin(reinterpret_cast<unsigned long long*>(work.first), static_cast<unsigned long long>(i));
      break;
    }
  }
}

}  // namespace

cudaError_t Enqueue(const FindNaN& work, cudaStream_t stream) {
  if (reinterpret_cast<uintptr_t>(work.codes) % kCodes != 0) return cudaErrorInvalidValue;
  if (work.count == 0) return cudaSuccess;
  const int64_t blocks = (work.count + kThreads * kCodes - 1) / (kThreads * kCodes);
  FindNaNKernel<<<static_cast<unsigned>(std::min(blocks, kMostBlocks)), kThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
