#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "ops/ops.h"
#include "tensor/tensor.h"

namespace sluice::cache {

// Sizes of what one layer keeps per token.
struct CacheShape {
  ops::CacheFormat format = ops::CacheFormat::kF32;
  int64_t latent = 0;     // kv_lora_rank
  int64_t rope = 0;       // qk_rope_head_dim
  int64_t index_dim = 0;  // index_head_dim

  int64_t latent_row_bytes() const { return ops::LatentRowBytes(format, latent, rope); }
  int64_t index_row_bytes() const { return ops::IndexRowBytes(format, index_dim); }
  // Of layers of which so many have an indexer.
  int64_t token_bytes(int64_t layers, int64_t indexers) const {
    return layers * latent_row_bytes() + indexers * index_row_bytes();
  }
};

// The paged caches of the layers of one rank: `pages` pages of 64 tokens per layer for latents and, in layers
// with an indexer, as many for index keys, laid out as ops/cache_format.h says. Which page belongs to whom is
// the scheduler's business.
class StageCache {
 public:
  // `has_indexer`: of each layer.
  StageCache(const CacheShape& shape, const std::vector<bool>& has_indexer, int64_t pages,
             Memory& memory = HostMemory());

  const CacheShape& shape() const { return shape_; }
  int64_t pages() const { return pages_; }
  // `layer` counts from 0 within this rank.
  ops::PagedCache Latents(int64_t layer) const { return {latents_[layer].data(), shape_.format}; }
  bool HasIndexKeys(int64_t layer) const { return index_keys_[layer].has_value(); }
  // Of a layer that has them.
  ops::PagedCache IndexKeys(int64_t layer) const {
    return {index_keys_[layer].value().data(), shape_.format};
  }

  // The cache of one sequence as its meaning, free of pages: for each layer the latent rows of positions
  // 0..tokens-1, then their index-key rows, if any (in kFp8 128 codes and the scale). For comparing layouts.
  std::vector<std::byte> Dump(ops::PageTable pages, int64_t tokens) const;

 private:
  CacheShape shape_;
  Memory& memory_;
  int64_t pages_;
  std::vector<Buffer> latents_;
  std::vector<std::optional<Buffer>> index_keys_;
};

}  // namespace sluice::cache
