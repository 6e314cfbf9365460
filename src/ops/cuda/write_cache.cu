#include "ops/cache_format.h"
#include "ops/cuda/write_cache.h"

namespace sluice::ops::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int64_t kKeyCodes = 128;
constexpr int64_t kKeyBytes = kKeyCodes + 4;

bool IsLegal(const CacheRows& at, int64_t alignment) {
  return reinterpret_cast<uintptr_t>(at.source) % alignment == 0 && at.source_stride % alignment == 0;
}

// The row of a warp: where it comes from, and its page and slot there.
struct Move {
  const uint8_t* from;
  int64_t page;
  int64_t slot;
};
__device__ Move MoveOf(const CacheRows& at, int64_t row) {
  const int64_t position = at.positions[row];
  const int32_t* pages = at.page_tables + at.sequences[row] * at.table_stride;
  return {static_cast<const uint8_t*>(at.source) + row * at.source_stride, pages[position / kPageTokens],
          position % kPageTokens};
}
__device__ int64_t RowOfWarp() { return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; }

template <typename Unit>
__global__ void __launch_bounds__(32 * kWarps) LatentsKernel(const WriteLatents work) {
  const int64_t row = RowOfWarp();
  if (row >= work.at.rows) return;
  const Move move = MoveOf(work.at, row);
  const auto* from = reinterpret_cast<const Unit*>(move.from);
  auto* to = reinterpret_cast<Unit*>(static_cast<uint8_t*>(work.at.base) +
                                     (move.page * kPageTokens + move.slot) * work.row_bytes);
  const auto units = static_cast<int>(work.row_bytes / static_cast<int64_t>(sizeof(Unit)));
  for (auto i = static_cast<int>(threadIdx.x % 32); i < units; i += 32) to[i] = from[i];
}

__global__ void __launch_bounds__(32 * kWarps) KeysKernel(const WriteIndexKeys work) {
  const int64_t row = RowOfWarp();
  if (row >= work.at.rows) return;
  const Move move = MoveOf(work.at, row);
  const auto* from = reinterpret_cast<const uint32_t*>(move.from);
  auto* page =
      reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(work.at.base) + move.page * kPageTokens * kKeyBytes);
  const auto lane = static_cast<int>(threadIdx.x % 32);
  page[move.slot * kKeyCodes / 4 + lane] = from[lane];
  if (lane == 0) page[kPageTokens * kKeyCodes / 4 + move.slot] = from[kKeyCodes / 4];
}

unsigned BlocksOf(int64_t rows) { return static_cast<unsigned>((rows + kWarps - 1) / kWarps); }

}  // namespace

cudaError_t Enqueue(const WriteLatents& work, cudaStream_t stream) {
  if (!IsLegal(work.at, 4) || reinterpret_cast<uintptr_t>(work.at.base) % 16 != 0 ||
      work.row_bytes % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  if (work.at.rows == 0) return cudaSuccess;
  if (IsLegal(work.at, 16)) {
    LatentsKernel<uint4><<<BlocksOf(work.at.rows), 32 * kWarps, 0, stream>>>(work);
  } else {
    LatentsKernel<uint32_t><<<BlocksOf(work.at.rows), 32 * kWarps, 0, stream>>>(work);
  }
  return cudaGetLastError();
}

cudaError_t Enqueue(const WriteIndexKeys& work, cudaStream_t stream) {
  if (!IsLegal(work.at, 4) || reinterpret_cast<uintptr_t>(work.at.base) % 4 != 0)
    return cudaErrorInvalidValue;
  if (work.at.rows == 0) return cudaSuccess;
  KeysKernel<<<BlocksOf(work.at.rows), 32 * kWarps, 0, stream>>>(work);
  return cudaGetLastError();
}

}  // namespace sluice::ops::cuda
