#pragma once

#include <cstdint>

#include "ops/cpu/gemm_kernel.h"

namespace sluice::ops::cpu {

// The keys of one page of the index-key cache, dims by tokens as the micro-kernel reads them.
struct IndexPage {
  float* keys = nullptr;    // [dim][64], unscaled
  float* scales = nullptr;  // [64]
};

// Reads a page whose first `count` slots hold keys; the other columns are 0.
void LoadIndexPage(const PagedCache& cache, int64_t page, int64_t dim, int64_t count, const IndexPage& out);

// scores[j] = scale_j * sum_h gates[h] * max(0, q_h . key_j) for the 64 keys of a page; -0 comes out as +0.
// q holds the heads of one row (q.rows heads of q.k dims). `next` (or nullptr): dim x 64 floats wanted next,
// which come into the cache meanwhile.
void ScorePage(const PackedRows& q, const float* gates, const IndexPage& page, const float* next,
               float* scores);

}  // namespace sluice::ops::cpu
