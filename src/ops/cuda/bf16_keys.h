#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cache_format.h"
#include "ops/cuda/sparse_attention.h"

// Pages of an FP8 cache of latents as pages of a bf16 one. Attention of many rows dequantises a key for each
// row and head group that attends to it; here it is done once. Codes become values by the same instructions
// (dequantize.cuh), so attention over these pages has the bits of attention over the cache.
namespace sluice::ops::cuda {

inline constexpr int64_t kBf16PageBytes = kPageTokens * LatentRowBytes(CacheFormat::kBf16, kLatent, kRotated);

// All pointers are to device memory, those of latents and keys multiples of 16 bytes.
struct Bf16Keys {
  int64_t pages = 0;
  const void* latents = nullptr;         // the cache's pages, CacheFormat::kFp8
  const int32_t* cache_pages = nullptr;  // [pages]: which of them; one may be named twice
  void* keys = nullptr;                  // [pages] pages of CacheFormat::kBf16, in that order
};

// Enqueues it with at most one block on each of `sms` SMs (SmBudget). Whole pages are converted, slots
// without a key as well. cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const Bf16Keys& work, int sms, cudaStream_t stream);

}  // namespace sluice::ops::cuda
