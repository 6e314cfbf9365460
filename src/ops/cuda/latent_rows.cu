#include "ops/cuda/latent_rows.h"
#include "ops/cuda/row_math.cuh"

namespace sluice::ops::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kStep = 32 * kEight;  // channels of a warp

// Rows that travel beside others are aligned to four bytes alone.
__device__ void StoreWords(uint2 words, uint8_t* to) {
  reinterpret_cast<uint32_t*>(to)[0] = words.x;
  reinterpret_cast<uint32_t*>(to)[1] = words.y;
}
__device__ void StoreWords(uint4 words, uint8_t* to) {
  StoreWords(uint2{words.x, words.y}, to);
  StoreWords(uint2{words.z, words.w}, to + 8);
}

// One warp for each row.
__global__ void __launch_bounds__(32 * kWarps) LatentKernel(const LatentRows work, int k_pe_at) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= work.rows) return;
  const auto lane = static_cast<int>(threadIdx.x % 32);
  const auto* kv = static_cast<const __nv_bfloat16*>(work.kv) + row * work.kv_stride;
  auto* out = static_cast<uint8_t*>(work.out) + row * work.out_stride;

  float squares = 0.0F;
  for (int column = kEight * lane; column < work.latent; column += kStep) {
    const Eight values = Load8(kv + column);
    for (const float value : values.at) squares = __fmaf_rn(value, value, squares);
  }
  const float mean = SumOfLanes(squares, 32) / static_cast<float>(work.latent);
  const float factor = 1.0F / sqrtf(mean + work.eps);
  auto* scales = reinterpret_cast<float*>(out + work.latent);
  for (int begin = 0; begin < work.latent; begin += kStep) {
    const int column = begin + kEight * lane;
    Eight values = {};
    if (column < work.latent) {
      values = Load8(kv + column);
      const Eight weight = Load8(work.norm + column);
      for (int i = 0; i < kEight; ++i) values.at[i] = weight.at[i] * (values.at[i] * factor);
      RoundToBF16(values);
    }
    const Quantized quantized = Quantize(values);
    if (column >= work.latent) continue;
    if (work.bf16_cache) {
      StoreWords(Pack(values), out + 2 * column);
    } else {
      StoreWords(quantized.codes, out + column);
      if (column % kQuantBlock == 0) scales[column / kQuantBlock] = quantized.scale;
    }
  }

  uint8_t* k_pe = out + k_pe_at;
  for (int i = lane; i < work.rope / kEight; i += 32) {
    Eight values = Load8(kv + work.latent + kEight * i);
    RotatePairs(values, work.angles + row * work.rope, work.rope / 2, i);
    StoreWords(Pack(values), k_pe + 2 * kEight * i);
  }
}

}  // namespace

cudaError_t Enqueue(const LatentRows& work, cudaStream_t stream) {
  if (work.latent % kQuantBlock != 0 || work.rope % kEight != 0 || !Aligned(work.kv, work.kv_stride, 2) ||
      !Aligned(work.norm, 0, 4) || !Aligned(work.angles, work.rope, 4) ||
      reinterpret_cast<uintptr_t>(work.out) % 4 != 0 || work.out_stride % 4 != 0) {
    return cudaErrorInvalidValue;
  }
  if (work.rows == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((work.rows + kWarps - 1) / kWarps);
  const int64_t k_pe_at = work.bf16_cache ? 2 * work.latent : ScaledCodeBytes(work.latent);
  LatentKernel<<<blocks, 32 * kWarps, 0, stream>>>(work, static_cast<int>(k_pe_at));
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
