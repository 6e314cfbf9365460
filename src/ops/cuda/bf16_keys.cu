#include <algorithm>

#include "ops/cuda/bf16_keys.h"
#include "ops/cuda/dequantize.cuh"

namespace sluice::ops::cuda {
namespace {

// Of a page, a block's threads have 8 channels each of every 16th row, and half of them 8 rotated channels.
constexpr int kThreads = 1024;
constexpr int kPieceChannels = 8;
constexpr int kPieces = kLatent / kPieceChannels;  // of a row
constexpr int kRotatedPieces = kRotated / kPieceChannels;
constexpr int kRowsAtOnce = kThreads / kPieces;
constexpr int kLoads = kPageTokens / kRowsAtOnce;
constexpr int64_t kFp8RowBytes = LatentRowBytes(CacheFormat::kFp8, kLatent, kRotated);
constexpr int64_t kFp8RotatedAt = ScaledCodeBytes(kLatent);
constexpr int64_t kBf16RowBytes = kBf16PageBytes / kPageTokens;
static_assert(kFp8RowBytes % 16 == 0 && kPageTokens * kRotatedPieces <= kThreads);

// A thread's part of a page.
class PagePart {
 public:
  // Under way on return.
  __device__ void Load(const Bf16Keys& work, int64_t page) {
    const uint8_t* from = static_cast<const uint8_t*>(work.latents) +
                          __ldg(work.cache_pages + page) * (kPageTokens * kFp8RowBytes);
    const uint8_t* rotated = from + RotatedRow() * kFp8RowBytes + kFp8RotatedAt;
    from += FirstRow() * kFp8RowBytes;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const uint8_t* row = from + i * kRowsAtOnce * kFp8RowBytes;
      codes_[i] = __ldg(reinterpret_cast<const uint2*>(row) + Piece());
      scales_[i] =
          __ldg(reinterpret_cast<const float*>(row + kLatent) + Piece() * kPieceChannels / kQuantBlock);
    }
    if (HasRotated()) rotated_ = __ldg(reinterpret_cast<const uint4*>(rotated) + RotatedPiece());
  }
  __device__ void Store(const Bf16Keys& work, int64_t page) const {
    uint8_t* to = static_cast<uint8_t*>(work.keys) + page * kBf16PageBytes;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      uint8_t* row = to + (FirstRow() + i * kRowsAtOnce) * kBf16RowBytes;
      reinterpret_cast<uint4*>(row)[Piece()] = DequantizeEight(codes_[i], FactorOf(scales_[i]));
    }
    if (!HasRotated()) return;
    reinterpret_cast<uint4*>(to + RotatedRow() * kBf16RowBytes + 2 * kLatent)[RotatedPiece()] = rotated_;
  }

 private:
  __device__ static int Piece() { return static_cast<int>(threadIdx.x) % kPieces; }
  __device__ static int FirstRow() { return static_cast<int>(threadIdx.x) / kPieces; }
  __device__ static bool HasRotated() { return threadIdx.x < kPageTokens * kRotatedPieces; }
  __device__ static int RotatedPiece() { return static_cast<int>(threadIdx.x) % kRotatedPieces; }
  __device__ static int RotatedRow() { return static_cast<int>(threadIdx.x) / kRotatedPieces; }

  uint2 codes_[kLoads];
  float scales_[kLoads];
  uint4 rotated_;
};

__global__ void __launch_bounds__(kThreads) Bf16KeysKernel(const Bf16Keys work) {
  PagePart part;
  int64_t page = blockIdx.x;
  part.Load(work, page);
  while (true) {
    const int64_t next = page + gridDim.x;
    if (next >= work.pages) break;
    PagePart behind;
    behind.Load(work, next);
    part.Store(work, page);
    part = behind;
    page = next;
  }
  part.Store(work, page);
}

}  // namespace

cudaError_t Enqueue(const Bf16Keys& work, int sms, cudaStream_t stream) {
  if (sms <= 0 || !IsAligned(work.latents) || !IsAligned(work.keys)) return cudaErrorInvalidValue;
  if (work.pages == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(work.pages, sms));
  Bf16KeysKernel<<<blocks, kThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
