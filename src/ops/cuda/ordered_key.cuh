#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// A value and its id as one number, so that the largest number is the largest value and, of equals, the
// lowest id: what experts and tokens are chosen by.
namespace sluice::ops::cuda {

// -0 is +0; NaN ranks below -infinity. Never 0.
__device__ inline uint64_t KeyOf(float value, int32_t id) {
  const uint32_t bits = __float_as_uint(value + 0.0F);
  uint32_t order = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  if (value != value) order = 0;
  return static_cast<uint64_t>(order) << 32 | ~static_cast<uint32_t>(id);
}
__device__ inline int32_t IdOf(uint64_t key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }
__device__ inline float ValueOf(uint64_t key) {
  const auto order = static_cast<uint32_t>(key >> 32);
  return __uint_as_float((order & 0x80000000U) != 0 ? order & 0x7fffffffU : ~order);
}

__device__ inline uint64_t LargestOfWarp(uint64_t key) {
  for (int step = 16; step > 0; step /= 2) {
    const uint64_t other = __shfl_xor_sync(~0U, key, step);
    key = other > key ? other : key;
  }
  return key;
}

}  // namespace sluice::ops::cuda
