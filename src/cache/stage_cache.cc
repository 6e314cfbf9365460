#include "cache/stage_cache.h"

#include <algorithm>
#include <cstring>

namespace sluice::cache {

StageCache::StageCache(const CacheShape& shape, const std::vector<bool>& has_indexer, int64_t pages,
                       Memory& memory)
    : shape_(shape), memory_(memory), pages_(pages) {
  for (const bool indexer : has_indexer) {
    latents_.emplace_back(pages * ops::kPageTokens * shape.latent_row_bytes(), memory);
    auto& index_keys = index_keys_.emplace_back();
    if (indexer) index_keys.emplace(pages * ops::kPageTokens * shape.index_row_bytes(), memory);
  }
}

std::vector<std::byte> StageCache::Dump(ops::PageTable pages, int64_t tokens) const {
  const int64_t latent_bytes = shape_.latent_row_bytes();
  const int64_t index_bytes = shape_.index_row_bytes();
  const int64_t indexers = std::count_if(index_keys_.begin(), index_keys_.end(),
                                         [](const auto& keys) { return keys.has_value(); });
  std::vector<std::byte> dump(tokens * shape_.token_bytes(std::ssize(latents_), indexers));
  std::byte* out = dump.data();
  // The page that holds a position, where the host can read it.
  const auto page_at = [&](const Buffer& cache, int64_t position, int64_t row_bytes) {
    const int64_t bytes = ops::kPageTokens * row_bytes;
    const int64_t page = pages[position / ops::kPageTokens];
    return HostCopy({cache.data() + page * bytes, DType::kU8, 1, bytes, bytes}, memory_);
  };
  for (size_t layer = 0; layer < latents_.size(); ++layer) {
    for (int64_t first = 0; first < tokens; first += ops::kPageTokens) {
      const int64_t bytes = std::min(ops::kPageTokens, tokens - first) * latent_bytes;
      std::memcpy(out, page_at(latents_[layer], first, latent_bytes).view().data, bytes);
      out += bytes;
    }
    if (!index_keys_[layer].has_value()) continue;
    for (int64_t first = 0; first < tokens; first += ops::kPageTokens) {
      const HostCopy copy = page_at(*index_keys_[layer], first, index_bytes);
      const auto* page = copy.view().Row<const std::byte>(0);
      for (int64_t slot = 0; slot < std::min(ops::kPageTokens, tokens - first); ++slot) {
        if (shape_.format == ops::CacheFormat::kF32) {
          std::memcpy(out, page + slot * index_bytes, index_bytes);
        } else {
          std::memcpy(out, page + slot * shape_.index_dim, shape_.index_dim);
          std::memcpy(out + shape_.index_dim, page + ops::kPageTokens * shape_.index_dim + slot * 4, 4);
        }
        out += index_bytes;
      }
    }
  }
  return dump;
}

}  // namespace sluice::cache
