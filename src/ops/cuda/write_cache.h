#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// Ops::WriteLatents and Ops::WriteIndexKeys: rows in cache format go to their places in the pages of a layer,
// bytes as they are.
namespace sluice::ops::cuda {

// Row t belongs at position positions[t] of sequence sequences[t], whose pages are
// page_tables[sequence * table_stride ...]: page p begins at base + p * 64 * row bytes. All in device memory.
// No two rows have the same place.
struct CacheRows {
  int64_t rows = 0;              // T
  const void* source = nullptr;  // a row each `source_stride` bytes, perhaps a column range of wider rows;
  int64_t source_stride = 0;     // both multiples of 4
  const int32_t* sequences = nullptr;    // [T]
  const int32_t* positions = nullptr;    // [T]
  const int32_t* page_tables = nullptr;  // [sequences, table_stride]
  int64_t table_stride = 0;
  void* base = nullptr;  // of the layer's cache; aligned to 16 bytes
};

// Token-contiguous rows of `row_bytes` (LatentRowBytes: 656 or 1152 with a latent of 512; a multiple of 16).
struct WriteLatents {
  CacheRows at;
  int64_t row_bytes = 0;
};
// Rows of 128 codes | fp32 scale; a page is 64 x 128 codes, then 64 scales.
struct WriteIndexKeys {
  CacheRows at;
};

// cudaErrorInvalidValue for arguments outside the limits above.
cudaError_t Enqueue(const WriteLatents& work, cudaStream_t stream);
cudaError_t Enqueue(const WriteIndexKeys& work, cudaStream_t stream);

}  // namespace sluice::ops::cuda
