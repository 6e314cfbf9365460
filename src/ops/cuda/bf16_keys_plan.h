#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/ops.h"

namespace sluice::ops::cuda {

// Which pages of an FP8 cache sparse attention dequantises ahead (bf16_keys.h), and where its rows then find
// them.
struct Bf16KeysPlan {
  Bf16KeysPlan() = default;
  Bf16KeysPlan(Bf16KeysPlan&&) = default;  // a copy's tables would be parts of the original
  Bf16KeysPlan& operator=(Bf16KeysPlan&&) = default;

  // Rows from this one on attend to bf16 keys, those before to the cache.
  int64_t first_row = 0;
  std::vector<int32_t> cache_pages;  // those of each sequence in turn; empty: all rows attend to the cache
  // Of each sequence: where its rows attend to bf16 keys, the pages up to the last position of a row, by
  // their ordinals in cache_pages; else those in the cache.
  std::vector<PageTable> tables;
  std::vector<int32_t> ordinals;  // what tables are parts of
};

// Of rows with `heads` heads that attend to `top_k` keys each, or to all that they see if these are fewer.
// All rows, or those behind some sequences where rows are in the order of sequences: decode rows, which come
// first, need not keep a prompt's from it. Pages of sequences that share them are dequantised for each. No
// pages where that takes longer than it saves, or where they take more than `room` bytes as bf16.
Bf16KeysPlan PlanBf16Keys(std::span<const RowPlace> places, std::span<const PageTable> pages, int64_t heads,
                          int64_t top_k, int64_t room);

}  // namespace sluice::ops::cuda
