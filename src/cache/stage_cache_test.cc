#include "cache/stage_cache.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

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
  const StageCache cache(shape, 2, kPages);  // 344 MiB
  EXPECT_LT(CommittedBytes() - before, 32 * kMiB);
  // 64 pages of one latent cache: 9 MiB; sanitizers keep notes of what is written.
  std::byte* latents = cache.Latents(0).base;
  for (int64_t i = 0; i < 64 * ops::kPageTokens * shape.latent_row_bytes(); i += 4096)
    latents[i] = std::byte{1};
  const int64_t grown = CommittedBytes() - before;
  EXPECT_GT(grown, 8 * kMiB);
  EXPECT_LT(grown, 100 * kMiB);
}

}  // namespace
}  // namespace sluice::cache
