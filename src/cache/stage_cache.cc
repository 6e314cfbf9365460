#include "cache/stage_cache.h"

#include <cstring>

namespace sluice::cache {

StageCache::StageCache(const CacheShape& shape, int64_t layers, int64_t pages)
    : shape_(shape), pages_(pages) {
  for (int64_t layer = 0; layer < layers; ++layer) {
    latents_.emplace_back(pages * ops::kPageTokens * shape.latent_row_bytes());
    index_keys_.emplace_back(pages * ops::kPageTokens * shape.index_row_bytes());
  }
}

std::vector<std::byte> StageCache::Dump(ops::PageTable pages, int64_t tokens) const {
  const int64_t latent_bytes = shape_.latent_row_bytes();
  const int64_t index_bytes = shape_.index_row_bytes();
  std::vector<std::byte> dump(latents_.size() * tokens * shape_.token_bytes());
  std::byte* out = dump.data();
  for (size_t layer = 0; layer < latents_.size(); ++layer) {
    for (int64_t position = 0; position < tokens; ++position) {
      const int64_t page = pages[position / ops::kPageTokens];
      const int64_t token = page * ops::kPageTokens + position % ops::kPageTokens;
      std::memcpy(out, latents_[layer].data() + token * latent_bytes, latent_bytes);
      out += latent_bytes;
    }
    for (int64_t position = 0; position < tokens; ++position) {
      const int64_t slot = position % ops::kPageTokens;
      const std::byte* page =
          index_keys_[layer].data() + pages[position / ops::kPageTokens] * ops::kPageTokens * index_bytes;
      if (shape_.format == ops::CacheFormat::kF32) {
        std::memcpy(out, page + slot * index_bytes, index_bytes);
      } else {
        std::memcpy(out, page + slot * shape_.index_dim, shape_.index_dim);
        std::memcpy(out + shape_.index_dim, page + ops::kPageTokens * shape_.index_dim + slot * 4, 4);
      }
      out += index_bytes;
    }
  }
  return dump;
}

}  // namespace sluice::cache
