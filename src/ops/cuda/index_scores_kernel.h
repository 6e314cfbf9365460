#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/gemm.h"

// What the scoring kernel is given; index_scores.h says what it computes.
namespace sluice::ops::cuda {

inline constexpr int64_t kIndexDim = 128;  // index_head_dim of every model of the family
inline constexpr int kQueryColumns = 256;  // most heads x rows of one tile
inline constexpr int kQueryBox = 64;       // lines of queries that are brought at a time
inline constexpr int kMostQueryGroups = 8192;

// Rows [row, row + rows) of one sequence that are scored together; rows * heads <= kQueryColumns.
struct QueryGroup {
  int32_t row = 0;
  int32_t rows = 0;
  int32_t sequence = 0;
};

// What was really launched, written by the kernel itself.
struct LaunchRecord {
  int32_t launches = 0;
  int32_t fewest_blocks = INT32_MAX;
  int32_t most_blocks = 0;
};

// All pointers are to device memory.
struct IndexScores {
  int64_t heads = 64;             // or 32
  int64_t rows = 0;               // T
  const void* queries = nullptr;  // [T, heads * 128] e4m3
  const float* gates = nullptr;   // [T, heads]
  const void* cache = nullptr;    // block-planar pages (ops/cache_format.h, kFp8), aligned to 128 bytes
  int64_t cache_pages = 0;
  const int32_t* page_tables = nullptr;  // [sequence, table_stride]: the pages of each sequence
  int64_t table_stride = 0;
  const int32_t* positions = nullptr;  // [T]
  const QueryGroup* groups = nullptr;
  int32_t group_count = 0;  // up to kMostQueryGroups
  float* scores = nullptr;  // [T, scores_stride]; of row t the entries 0..positions[t] are written
  int64_t scores_stride = 0;
  LaunchRecord* record = nullptr;  // if there, is told of the launch
  // Block b of n takes shares b, b + n, ... instead of drawing from the counter; for
  // bench/sm_reserve_bench.cc.
  bool fixed_tiles = false;
};

// `queries` and `keys` describe work.queries and work.cache as lines of 128 bytes.
cudaError_t Launch(const IndexScores& work, TileCounter counter, const CUtensorMap& queries,
                   const CUtensorMap& keys, int sms, cudaStream_t stream);

// The same to the bit for a single group of up to kFewColumns heads x rows, sooner.
inline constexpr int kFewColumns = 128;
cudaError_t LaunchFew(const IndexScores& work, const CUtensorMap& queries, const CUtensorMap& keys, int sms,
                      cudaStream_t stream);

}  // namespace sluice::ops::cuda
