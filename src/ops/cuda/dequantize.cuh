#pragma once

#include <cuda_bf16.h>

#include <cstdint>

// e4m3 codes of an FP8 cache's latents as bf16: one way for all who do it, so that what attention multiplies
// is the same bits wherever it was dequantised.
namespace sluice::ops::cuda {

// What the codes of a scale are multiplied with: the half of 2^120 that DequantizePair leaves to it.
__device__ inline __nv_bfloat162 FactorOf(float scale) {
  return __float2bfloat162_rn(__fmul_rn(scale, 0x1p60F));
}

// Two codes as bf16, times a power of two (FactorOf): exact. `kPick` puts each code into the lower byte of a
// half, copies of its sign bit into the upper one. Shifted by four places, what is not masked away is the
// code's bits in the places of bf16's, and that is its value times 2^-120.
template <uint32_t kPick>
__device__ uint32_t DequantizePair(uint32_t codes, __nv_bfloat162 factor) {
  uint32_t signed_codes;
  asm("prmt.b32 %0, %1, 0, %2;" : "=r"(signed_codes) : "r"(codes), "n"(kPick));
  const uint32_t bits = signed_codes << 4 & 0x87f087f0U;
  const __nv_bfloat162 half = __float2bfloat162_rn(0x1p60F);
  const __nv_bfloat162 value = __hmul2(__hmul2(reinterpret_cast<const __nv_bfloat162&>(bits), half), factor);
  return reinterpret_cast<const uint32_t&>(value);
}
__device__ inline uint4 DequantizeEight(uint2 codes, __nv_bfloat162 factor) {
  constexpr uint32_t kLow = 0x9180, kHigh = 0xb3a2;  // 8: the sign of the byte
  return {DequantizePair<kLow>(codes.x, factor), DequantizePair<kHigh>(codes.x, factor),
          DequantizePair<kLow>(codes.y, factor), DequantizePair<kHigh>(codes.y, factor)};
}

}  // namespace sluice::ops::cuda
