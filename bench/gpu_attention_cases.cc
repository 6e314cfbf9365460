#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <span>
#include <vector>

#include "gpu_operands.h"
#include "gpu_ops_bench.h"
#include "ops/cache_format.h"
#include "ops/cuda/bf16_keys.h"
#include "ops/cuda/bf16_keys_plan.h"
#include "ops/cuda/reserved.h"
#include "ops/cuda/sparse_attention.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;

constexpr int64_t kK = 1024;
constexpr int64_t kHeads = 128;
constexpr int64_t kGlm5Heads = 64;
constexpr int64_t kTopK = 2048;
constexpr int64_t kPatternKeys = 8192;
constexpr int64_t kPool = 256 * kK;  // whose latents do not fit into the L2 cache

// `keys` keys of an FP8 cache.
std::vector<std::byte> Fp8Latents(int64_t keys) {
  std::vector<std::byte> latents;
  for (int64_t key = 0; key < keys; ++key) {
    const auto append = [&](std::span<const std::byte> pattern, int64_t bytes) {
      const auto part = pattern.subspan(key * bytes, bytes);
      latents.insert(latents.end(), part.begin(), part.end());
    };
    append(RandomCodes(), ops::cuda::kLatent);
    append(RandomScales(), ops::cuda::kLatent / ops::kQuantBlock * 4);
    append(RandomBf16(), ops::cuda::kRotated * 2);
  }
  return latents;
}

// Keys of every part of the context; every launch of a graph has its own. From an FP8 cache as the back end
// does it: where keys are dequantised ahead, that is in the time.
void Attention(Bench& bench, ops::CacheFormat format, int64_t heads, int64_t rows, int64_t context,
               const Bar& bar = {}, Bench::Sustained sustained = Bench::Sustained::kNo) {
  const bool fp8 = format == ops::CacheFormat::kFp8;
  const bool few = rows < 512;
  const std::string shape = fmt::format("{} cache, {} rows, {} heads, 2048 of {}K keys", fp8 ? "fp8" : "bf16",
                                        rows, heads, context / kK);
  if (!bench.Wants("sparse attention", shape)) return;
  const int64_t copies = few ? kPerGraph : 1;
  const int64_t row_bytes = ops::LatentRowBytes(format, ops::cuda::kLatent, ops::cuda::kRotated);
  const std::vector<std::byte> latents = Fp8Latents(fp8 ? kPatternKeys : 0);
  std::mt19937 random(3);
  std::vector<int32_t> chosen;
  const int64_t apart = context / kTopK;
  for (int64_t i = 0; i < copies * rows * kTopK; ++i) {
    chosen.push_back(static_cast<int32_t>(i % kTopK * apart + random() % apart));
  }
  const DeviceArray q(rows * heads * ops::cuda::kLatentWidth * 2, RandomBf16());
  const DeviceArray cache(context * row_bytes, fp8 ? std::span<const std::byte>(latents) : RandomBf16());
  const std::vector<int32_t> pages = ShuffledPages(context);
  const DeviceArray sequences(rows * 4);
  const DeviceArray selection(chosen);
  const DeviceArray o(rows * heads * ops::cuda::kLatent * 2);
  const DeviceArray workspace(ops::cuda::WorkspaceBytes(bench.sms()));
  const DeviceArray published(ops::cuda::PublishedBytes(bench.sms()));
  // The rows are the context's last.
  ops::cuda::Bf16KeysPlan plan;
  if (fp8 && !ops::cuda::AreFew(rows, heads, bench.sms())) {
    const std::vector<ops::RowPlace> places(rows, {0, static_cast<int32_t>(context - 1)});
    plan = ops::cuda::PlanBf16Keys(places, std::vector<ops::PageTable>{pages}, heads, kTopK,
                                   ops::cuda::kScoreBytes);
  }
  const bool ahead = !plan.cache_pages.empty();
  const DeviceArray cache_pages(ahead ? plan.cache_pages : pages);
  const DeviceArray tables(ahead ? plan.ordinals : pages);
  const DeviceArray bf16((ahead ? context / ops::kPageTokens : 1) * ops::cuda::kBf16PageBytes);
  const ops::cuda::Bf16Keys keys{context / ops::kPageTokens, cache.as(), cache_pages.as<int32_t>(),
                                 bf16.as()};
  ops::cuda::SparseAttention work;
  work.rows = rows;
  work.heads = heads;
  work.scale = 0.0722F / 24.0F;  // as if keys and queries were normalised
  work.q_latent = q.as();
  work.q_stride = heads * ops::cuda::kLatentWidth;
  work.format = ahead ? ops::CacheFormat::kBf16 : format;
  work.latents = ahead ? bf16.as() : cache.as();
  work.page_tables = tables.as<int32_t>();
  work.table_stride = context / ops::kPageTokens;
  work.sequences = sequences.as<int32_t>();
  work.top_k = kTopK;
  work.selection_stride = kTopK;
  work.o_latent = o.as();
  work.o_stride = heads * ops::cuda::kLatent;
  work.workspace = workspace.as();
  work.workspace_bytes = workspace.bytes();
  work.published = published.as<uint32_t>();
  const double gathered = static_cast<double>(std::min(rows * kTopK, context) * row_bytes);
  bench.Time("sparse attention", shape,
             {Unit::kBf16, 2.0 * static_cast<double>(rows * heads * kTopK) * (576 + 512),
              gathered + static_cast<double>(q.bytes() + o.bytes() + rows * kTopK * 4)},
             {[&](int i, cudaStream_t stream) {
                if (ahead) Check(Enqueue(keys, bench.sms(), stream), "keys as bf16");
                work.selection = selection.as<int32_t>(i % copies * rows * kTopK);
                Check(Enqueue(work, bench.counter(), bench.sms(), stream), "sparse attention");
              },
              few ? kPerGraph : 1},
             bar, sustained);
}

// What goes before attention from an FP8 cache.
void KeysAsBf16(Bench& bench, int64_t context) {
  const std::string shape = fmt::format("{}K keys of an fp8 cache", context / kK);
  if (!bench.Wants("keys as bf16", shape)) return;
  const int64_t row_bytes =
      ops::LatentRowBytes(ops::CacheFormat::kFp8, ops::cuda::kLatent, ops::cuda::kRotated);
  const DeviceArray cache(context * row_bytes, Fp8Latents(kPatternKeys));
  const DeviceArray pages(ShuffledPages(context));
  const DeviceArray bf16(context / ops::kPageTokens * ops::cuda::kBf16PageBytes);
  const ops::cuda::Bf16Keys keys{context / ops::kPageTokens, cache.as(), pages.as<int32_t>(), bf16.as()};
  bench.Time(
      "keys as bf16", shape, {Unit::kNone, 0.0, static_cast<double>(cache.bytes() + bf16.bytes())},
      {[&](int, cudaStream_t stream) { Check(Enqueue(keys, bench.sms(), stream), "keys as bf16"); }, 1});
}

}  // namespace

void TimeAttention(Bench& bench) {
  using ops::CacheFormat;
  constexpr auto kFp8 = CacheFormat::kFp8;
  constexpr auto kBf16 = CacheFormat::kBf16;
  struct Prefill {
    int64_t rows, context;  // of K
    double anchor_us;       // from a bf16 cache
    double most_us = 0.0;
  };
  constexpr Prefill kPrefills[] = {{1024, 8, 0},    {1024, 48, 0}, {1024, 64, 980},        {1024, 128, 0},
                                   {4096, 8, 3466}, {4096, 48, 0}, {4096, 64, 3778, 3780}, {4096, 128, 3986}};
  for (const Prefill& at : kPrefills) {
    const auto sustained = at.context == 64 ? Bench::Sustained::kYes : Bench::Sustained::kNo;
    const Bar bar{at.anchor_us, at.most_us};
    Attention(bench, kFp8, kHeads, at.rows, at.context * kK, bar, sustained);
    Attention(bench, kBf16, kHeads, at.rows, at.context * kK, bar, sustained);
    Attention(bench, kFp8, kGlm5Heads, at.rows, at.context * kK);
    if (at.context == 64) {
      Attention(bench, kBf16, kGlm5Heads, at.rows, at.context * kK, {at.rows == 4096 ? 2081.0 : 0.0});
    }
  }
  for (const int64_t context : {8, 64, 128}) KeysAsBf16(bench, context * kK);
  struct Decode {
    int64_t rows;
    double anchor_us, half_us;  // from an fp8 cache: of 128 heads, of 64
  };
  // The last is of 128 sequences with two rows each.
  constexpr Decode kDecodes[] = {{1, 17.5, 17.5},  {2, 17.0, 18.3},     {4, 19.3, 18.3},
                                 {8, 26.4, 21.0},  {16, 39.0, 29.4},    {32, 62.1, 46.1},
                                 {64, 93.2, 73.5}, {128, 182.0, 110.1}, {256, 362.3, 216.3}};
  for (const Decode& at : kDecodes) {
    Attention(bench, kFp8, kHeads, at.rows, kPool, Bar::Times(at.anchor_us, 1.05));
    Attention(bench, kFp8, kGlm5Heads, at.rows, kPool, Bar::Times(at.half_us, 1.05));
  }
  for (const int64_t rows : {1, 16, 64, 128}) Attention(bench, kBf16, kHeads, rows, kPool);
}

}  // namespace sluice::bench
