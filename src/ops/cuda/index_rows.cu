#include <cmath>

#include "ops/cuda/index_rows.h"
#include "ops/cuda/row_math.cuh"

namespace sluice::ops::cuda {
namespace {

// A head of 128 channels belongs to sixteen neighbouring threads; `i` is a thread's number among them.
constexpr int kDim = 128;
constexpr int kHeads = kRowThreads / kBlockThreads;  // of a block

// The first `rope` channels, by `angles` (rope / 2 cosines, then as many sines). Whole warps call it.
__device__ void RotateHead(Eight& values, const float* angles, int rope, bool interleaved, int i) {
  const int pairs = rope / 2;
  if (interleaved) {
    if (kEight * i < rope) RotatePairs(values, angles, pairs, i);
    return;
  }
  // Channel j and channel j + pairs meet: the threads of the first half hold the one, those of the second the
  // other.
  const int half = pairs / kEight;
  const bool first = i < half;
  const int partner = first ? i + half : i - half;
  for (int j = 0; j < kEight; ++j) {
    float other = __shfl_sync(~0U, values.at[j], partner, kBlockThreads);
    if (i >= 2 * half) continue;
    const int pair = kEight * (first ? i : partner) + j;
    float mine = values.at[j];
    if (first) {
      Rotate(mine, other, angles[pair], angles[pairs + pair]);
    } else {
      Rotate(other, mine, angles[pair], angles[pairs + pair]);
    }
    values.at[j] = mine;
  }
}

// Orthonormal, Sylvester order, the sums in the order of distances 1, 2, ..., 64. Whole warps call it.
__device__ void Hadamard(Eight& values, int i) {
  for (int distance = 1; distance < kEight; distance *= 2) {
    for (int j = 0; j < kEight; ++j) {
      if ((j & distance) != 0) continue;
      const float a = values.at[j];
      const float b = values.at[j + distance];
      values.at[j] = a + b;
      values.at[j + distance] = a - b;
    }
  }
  for (int distance = 1; distance < kBlockThreads; distance *= 2) {
    for (float& value : values.at) {
      const float other = __shfl_xor_sync(~0U, value, distance);
      value = (i & distance) == 0 ? value + other : other - value;
    }
  }
  const float factor = 1.0F / sqrtf(static_cast<float>(kDim));
  for (float& value : values.at) value *= factor;
}

__device__ Quantized QuantizeHead(Eight& values, const float* angles, int rope, bool interleaved, int i) {
  RotateHead(values, angles, rope, interleaved, i);
  RoundToBF16(values);
  Hadamard(values, i);
  RoundToBF16(values);
  return Quantize(values);
}

__global__ void __launch_bounds__(kRowThreads) QueriesKernel(const IndexQueries work, float constant) {
  const auto i = static_cast<int>(threadIdx.x % kBlockThreads);
  const int64_t head =
      static_cast<int64_t>(blockIdx.x) * kHeads + threadIdx.x / kBlockThreads;  // of all rows
  const bool inside = head < work.rows * work.heads;
  const int64_t row = inside ? head / work.heads : 0;
  const int64_t h = inside ? head % work.heads : 0;
  const auto* q = static_cast<const __nv_bfloat16*>(work.q) + row * work.q_stride;
  Eight values = Load8(q + h * kDim + kEight * i);
  const Quantized quantized =
      QuantizeHead(values, work.angles + row * work.rope, work.rope, work.rope_interleaved, i);
  if (!inside) return;
  reinterpret_cast<uint2*>(work.queries)[head * kBlockThreads + i] = quantized.codes;
  if (i == 0) {
    work.gates[head] = work.gate_logits[row * work.gate_logits_stride + h] * constant * quantized.scale;
  }
}

__global__ void __launch_bounds__(kRowThreads) KeysKernel(const IndexKeyRows work) {
  constexpr float kLayerNormEps = 1e-6F;  // fixed in the official code, not rms_norm_eps
  const auto i = static_cast<int>(threadIdx.x % kBlockThreads);
  const int64_t key = static_cast<int64_t>(blockIdx.x) * kHeads + threadIdx.x / kBlockThreads;
  const bool inside = key < work.rows;
  const int64_t row = inside ? key : 0;
  Eight values = Load8(static_cast<const __nv_bfloat16*>(work.k) + row * work.k_stride + kEight * i);
  float sum = 0.0F;
  for (const float value : values.at) sum += value;
  const float mean = SumOfLanes(sum, kBlockThreads) / static_cast<float>(kDim);
  float squares = 0.0F;
  for (float& value : values.at) {
    value -= mean;
    squares = __fmaf_rn(value, value, squares);
  }
  const float variance = SumOfLanes(squares, kBlockThreads) / static_cast<float>(kDim);
  const float factor = 1.0F / sqrtf(variance + kLayerNormEps);
  const Eight weight = Load8(work.weight + kEight * i);
  const Eight bias = Load8(work.bias + kEight * i);
  for (int j = 0; j < kEight; ++j) {
    values.at[j] = __fmaf_rn(__fmul_rn(values.at[j], factor), weight.at[j], bias.at[j]);
  }
  RoundToBF16(values);
  const Quantized quantized =
      QuantizeHead(values, work.angles + row * work.rope, work.rope, work.rope_interleaved, i);
  if (!inside) return;
  auto* out = reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(work.out) + row * work.out_stride);
  out[2 * i] = quantized.codes.x;
  out[2 * i + 1] = quantized.codes.y;
  if (i == 0) out[kDim / 4] = __float_as_uint(quantized.scale);
}

bool RopeIsLegal(int32_t rope, const float* angles) {
  return rope % (2 * kEight) == 0 && rope <= kDim && Aligned(angles, rope, 4);
}

unsigned BlocksOf(int64_t heads) { return static_cast<unsigned>((heads + kHeads - 1) / kHeads); }

}  // namespace

cudaError_t Enqueue(const IndexQueries& work, cudaStream_t stream) {
  if (!RopeIsLegal(work.rope, work.angles) || !Aligned(work.q, work.q_stride, 2) ||
      !Aligned(work.queries, kDim, 1)) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0 || work.heads == 0) return cudaSuccess;
  const float constant = static_cast<float>(1.0 / std::sqrt(static_cast<double>(work.heads) * kDim));
  QueriesKernel<<<BlocksOf(work.rows * work.heads), kRowThreads, 0, stream>>>(work, constant);
  return cudaGetLastError();
}

cudaError_t Enqueue(const IndexKeyRows& work, cudaStream_t stream) {
  if (!RopeIsLegal(work.rope, work.angles) || !Aligned(work.k, work.k_stride, 2) ||
      !Aligned(work.weight, 0, 4) || !Aligned(work.bias, 0, 4) ||
      reinterpret_cast<uintptr_t>(work.out) % 4 != 0 || work.out_stride % 4 != 0) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0) return cudaSuccess;
  KeysKernel<<<BlocksOf(work.rows), kRowThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
