#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cache_format.h"
#include "ops/cuda/gemm.h"

// Softmax attention of each row over its selected keys (Ops::SparseAttention) on the tensor cores:
//
//   s_j = scale * q_latent . [c_j ; k_pe,j];  o_latent = sum_j softmax(s)_j c_j
//
// One answer. Of a row and a head: keys go by their ordinal in the selection, in blocks of 64. Block by
// block, in fp32 unless said otherwise, from t = -inf, sum = 0, o = 0:
//
//   m = max_j s_j log2 e;  t' = m if m > t + 8, otherwise t;  a = 2^(t - t')
//   p_j = 2^(s_j log2 e - t') -> bf16
//   sum = fma(sum, a, sum_j p_j);  o = o a + sum_j p_j c_j   (wgmma, k = 16 keys at a time)
//
// and at the end o (1 / sum) -> bf16. So p_j is at most 2^8, and o is seldom multiplied. Whether one block of
// threads computes a row or several do, which rows and heads there are besides, where the pages lie and how
// many SMs compute changes no bit.
namespace sluice::ops::cuda {

inline constexpr int64_t kLatent = 512;  // channels of a key that are its value as well
inline constexpr int64_t kRotated = 64;  // channels of a key behind them
inline constexpr int64_t kLatentWidth = kLatent + kRotated;
inline constexpr int64_t kMostHeads = 128;
inline constexpr int64_t kTileHeads = 64;  // of one row that the tensor cores work on at a time: a head group
inline constexpr int64_t kMostAttended = 2048;  // keys of a row

// To 16 bytes, as rows of keys, queries and outputs are.
inline bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// All pointers are to device memory, those of q_latent, latents, o_latent, workspace and published multiples
// of 16 bytes.
struct SparseAttention {
  int64_t rows = 0;                        // T
  int64_t heads = 0;                       // 1..kMostHeads; in whole head groups, so fewer cost as much
  float scale = 1.0F;                      // above 0
  const void* q_latent = nullptr;          // [T, heads * kLatentWidth] bf16
  int64_t q_stride = 0;                    // elements from row to row, a multiple of 8
  CacheFormat format = CacheFormat::kFp8;  // or kBf16
  const void* latents = nullptr;           // the cache's pages (ops/cache_format.h)
  const int32_t* page_tables = nullptr;    // [sequence, table_stride]: the pages of each sequence
  int64_t table_stride = 0;
  const int32_t* sequences = nullptr;  // [T]: whose keys a row attends to
  const int32_t* selection = nullptr;  // [T, top_k]: positions ascending, then -1; none: o_latent is 0
  int64_t top_k = 0;                   // 1..kMostAttended
  int64_t selection_stride = 0;        // elements from row to row
  void* o_latent = nullptr;            // [T, heads * kLatent] bf16
  int64_t o_stride = 0;                // elements from row to row, a multiple of 8
  void* workspace = nullptr;           // if rows are few (AreFew); launches that overlap need one each
  int64_t workspace_bytes = 0;         // at least WorkspaceBytes(sms)
  // If rows are few: PublishedBytes(sms), 0 before a launch and again after it; launches that overlap need
  // their own.
  uint32_t* published = nullptr;
};

// So few that several SMs share each.
bool AreFew(int64_t rows, int64_t heads, int sms);
// What Enqueue needs beside its operands where rows are few, whatever their number: some 35 MB on 132 SMs.
int64_t WorkspaceBytes(int sms);
// What blocks of threads tell one another: 128 KiB on 132 SMs.
int64_t PublishedBytes(int sms);

// Enqueues it with one block on each of `sms` SMs (SmBudget), which take their tiles from the counter
// (gemm.h), or, where rows are few, as two launches of at most so many blocks. Nothing is allocated. Returns
// what CUDA says; throws Error(kInternal) for arguments outside the limits above.
cudaError_t Enqueue(const SparseAttention& work, TileCounter tiles, int sms, cudaStream_t stream);

}  // namespace sluice::ops::cuda
