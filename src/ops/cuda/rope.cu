#include "ops/cuda/rope.h"
#include "ops/cuda/row_math.cuh"
#include "ops/sine_cosine.h"

namespace sluice::ops::cuda {
namespace {

__global__ void __launch_bounds__(kRowThreads) AnglesKernel(const RopeAngles work) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (index >= work.rows * work.pairs) return;
  const int64_t row = index / work.pairs;
  const int64_t i = index % work.pairs;
  const float angle = static_cast<float>(work.positions[row]) * work.inv_freq[i];
  const SinCos value = SineCosine(static_cast<double>(angle));
  float* out = work.angles + row * 2 * work.pairs;
  out[i] = static_cast<float>(value.cos);
  out[work.pairs + i] = static_cast<float>(value.sin);
}

// rope / 8 threads for each head.
__global__ void __launch_bounds__(kRowThreads) RotateKernel(const RotateQueries work) {
  const int64_t row = blockIdx.x;
  const int threads = work.rope / kEight;
  const auto index = static_cast<int>(blockIdx.y * kRowThreads + threadIdx.x);
  const int64_t head = index / threads;
  const int i = index % threads;
  if (head >= work.heads) return;
  const auto* q = static_cast<const __nv_bfloat16*>(work.q) + row * work.q_stride;
  auto* out = static_cast<__nv_bfloat16*>(work.q_latent) + row * work.q_latent_stride;
  Eight values = Load8(q + head * (work.nope + work.rope) + work.nope + kEight * i);
  RotatePairs(values, work.angles + row * work.rope, work.rope / 2, i);
  Store8(values, out + head * (work.latent + work.rope) + work.latent + kEight * i);
}

}  // namespace

cudaError_t Enqueue(const RopeAngles& work, cudaStream_t stream) {
  const int64_t count = work.rows * work.pairs;
  if (count == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((count + kRowThreads - 1) / kRowThreads);
  AnglesKernel<<<blocks, kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

cudaError_t Enqueue(const RotateQueries& work, cudaStream_t stream) {
  if (work.nope % kEight != 0 || work.rope % kEight != 0 || work.latent % kEight != 0 ||
      !Aligned(work.q, work.q_stride, 2) || !Aligned(work.q_latent, work.q_latent_stride, 2) ||
      !Aligned(work.angles, work.rope, 4)) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.rope == 0 || work.heads == 0) return cudaSuccess;
  RotateKernel<<<RowsByTiles(work.rows, int64_t{work.heads} * work.rope), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
