#include "cache/stage_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace sluice::cache {
namespace {

int64_t CommittedBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    int64_t kib = 0;
    if (word == "RssAnon:" && status >> kib) return kib * 1024;
  }
  return 0;
}

TEST(StageCache, CommitsMemoryWhenItIsWrittenAndNotBefore) {
  const CacheShape shape{ops::CacheFormat::kF32, 512, 64, 128};
  constexpr int64_t kPages = 1000;
  constexpr int64_t kMiB = 1 << 20;
  const int64_t before = CommittedBytes();
  const StageCache cache(shape, {true, true}, kPages);  // 344 MiB
  EXPECT_LT(CommittedBytes() - before, 32 * kMiB);
  // 64 pages of one latent cache: 9 MiB; sanitizers keep notes of what is written.
  std::byte* latents = cache.Latents(0).base;
  for (int64_t i = 0; i < 64 * ops::kPageTokens * shape.latent_row_bytes(); i += 4096)
    latents[i] = std::byte{1};
  const int64_t grown = CommittedBytes() - before;
  EXPECT_GT(grown, 8 * kMiB);
  EXPECT_LT(grown, 100 * kMiB);
}

// A layer without an indexer has latents alone, and a dump shows neither a gap nor the keys of another layer.
TEST(StageCache, KeepsIndexKeysOfLayersWithAnIndexer) {
  const CacheShape shape{ops::CacheFormat::kF32, 2, 2, 2};
  const StageCache cache(shape, {true, false, true}, /*pages=*/2);
  EXPECT_TRUE(cache.HasIndexKeys(0));
  EXPECT_FALSE(cache.HasIndexKeys(1));
  EXPECT_EQ(shape.token_bytes(3, 2), 3 * 16 + 2 * 8);
  constexpr int64_t kTokens = 3;
  const auto fill = [](std::byte* rows, int64_t bytes, int value) {
    std::fill(rows + ops::kPageTokens * bytes, rows + (ops::kPageTokens + kTokens) * bytes, std::byte(value));
  };
  for (int layer = 0; layer < 3; ++layer) {
    fill(cache.Latents(layer).base, 16, 10 + layer);
    if (layer != 1) fill(cache.IndexKeys(layer).base, 8, 20 + layer);
  }
  std::vector<std::byte> expected;
  for (const auto& [bytes, value] : {std::pair(16, 10), {8, 20}, {16, 11}, {16, 12}, {8, 22}}) {
    expected.insert(expected.end(), kTokens * bytes, std::byte(value));
  }
  const std::vector<int32_t> pages = {1};
  EXPECT_EQ(cache.Dump(pages, kTokens), expected);
}

}  // namespace
}  // namespace sluice::cache
