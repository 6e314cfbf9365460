#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Ops::LatentRows: kv [T, latent + rope] -> rows ready for the cache (ops/cache_format.h),
//   c = bf16(RmsNorm(kv[0:latent])); k_pe = bf16(kv[latent:] with pairs (2i, 2i + 1) rotated);
//   kFp8: c -> e4m3 with a scale per 128 | scales | k_pe;  kBf16: c | k_pe.
namespace sluice::ops::cuda {

// Pointers are to device memory; what is read, and its strides in bytes, are multiples of 16.
struct LatentRows {
  int64_t rows = 0;             // T
  int32_t latent = 0;           // a multiple of 128
  int32_t rope = 0;             // a multiple of 8
  const void* kv = nullptr;     // [T, latent + rope] bf16
  int64_t kv_stride = 0;        // elements from row to row
  const float* norm = nullptr;  // [latent]
  float eps = 0.0F;
  const float* angles = nullptr;  // [T, rope], of RopeAngles
  void* out = nullptr;            // [T, LatentRowBytes]; aligned to 4 bytes
  int64_t out_stride = 0;         // bytes from row to row, a multiple of 4
  bool bf16_cache = false;        // rows of CacheFormat::kBf16 instead of kFp8
};

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const LatentRows& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
