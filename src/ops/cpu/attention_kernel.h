#pragma once

#include <cstdint>
#include <span>

#include "ops/cpu/gemm.h"
#include "ops/ops.h"

namespace sluice::ops::cpu {

inline constexpr int64_t kPartition = 512;  // ordinals of a selection that share one partial softmax
inline constexpr int64_t kKeyBlock = 64;    // keys gathered at once
inline constexpr int64_t kHeadPanel = 32;   // heads are padded to a multiple of this

// The softmax over some keys, not yet divided: per head the largest score, sum = sum_j exp(s_j - largest) and
// o = sum_j exp(s_j - largest) c_j.
struct PartialSoftmax {
  float* largest = nullptr;  // [heads, padded to 32]
  float* sum = nullptr;      // [heads, padded to 32]
  float* o = nullptr;        // [heads][latent, padded to 32]

  static int64_t Floats(int64_t heads, int64_t latent);
  // Lays the arrays out at `memory`, which holds Floats() floats.
  static PartialSoftmax At(float* memory, int64_t heads);
};

// Rows of queries and keys of one call of attention; heads counts those of this unit of work.
struct AttentionUnit {
  int64_t heads = 0;
  int64_t latent = 0;
  int64_t rope = 0;
  float scale = 1.0F;
  Tensor q;  // [heads, latent + rope] F32 or BF16
  PagedCache cache;
  PageTable pages;
  std::span<const int32_t> positions;  // of at most kPartition keys, ascending
};

// Softmax over the keys in blocks of 64: s = scale * dot; largest' = max(largest, max_j s_j), a = exp(largest
// - largest'), sum = fma(sum, a, sum_j p_j), o = o a + p_j c_j by one FMA chain over j.
void AttendPartition(const AttentionUnit& unit, const PartialSoftmax& out);

// into = into and later together: both rescaled to the larger maximum; sums and o are fma(into, a, later *
// b).
void MergeSoftmax(int64_t heads, int64_t latent, const PartialSoftmax& into, const PartialSoftmax& later);

// out[h * latent ...] = o / sum, rounded to out's dtype (F32 or BF16).
void FinishSoftmax(int64_t heads, int64_t latent, const PartialSoftmax& softmax, DType dtype, void* out);

}  // namespace sluice::ops::cpu
