#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <vector>

#include "gpu_ops_bench.h"
#include "ops/cache_format.h"
#include "ops/cuda/index_scores.h"
#include "ops/cuda/sparse_attention.h"
#include "ops/cuda/top_k.h"

namespace sluice::bench {
namespace {

using ops::cuda::Check;

constexpr int64_t kHeads = 128;
constexpr int64_t kIndexHeads = 64;
constexpr int64_t kTopK = 2048;
constexpr int64_t kContext = 65536;
constexpr int64_t kPool = 262144;  // whose latents do not fit into the L2 cache

std::vector<int32_t> Pages(int64_t context) {
  std::vector<int32_t> pages(static_cast<size_t>(context / ops::kPageTokens));
  std::iota(pages.begin(), pages.end(), 0);
  std::mt19937 random(2);
  std::shuffle(pages.begin(), pages.end(), random);
  return pages;
}

// The last rows of each sequence of a context, each over the keys that it sees.
void Scores(Bench& bench, int64_t sequences, int64_t rows_each, int64_t context) {
  constexpr int64_t kPageBytes = ops::kPageTokens * (ops::cuda::kIndexDim + 4);
  constexpr int64_t kCodes = ops::kPageTokens * ops::cuda::kIndexDim;
  constexpr int64_t kPatternPages = 64;
  const int64_t rows = sequences * rows_each;
  std::vector<std::byte> pages;
  for (int64_t page = 0; page < kPatternPages; ++page) {
    const auto codes = RandomCodes().subspan(page * kCodes, kCodes);
    const auto scales = RandomScales().subspan(page * (kPageBytes - kCodes), kPageBytes - kCodes);
    pages.insert(pages.end(), codes.begin(), codes.end());
    pages.insert(pages.end(), scales.begin(), scales.end());
  }
  std::vector<ops::RowPlace> places;
  std::vector<int32_t> positions;
  double visible = 0.0;
  for (int64_t row = 0; row < rows; ++row) {
    positions.push_back(static_cast<int32_t>(context - rows_each + row % rows_each));
    places.push_back({static_cast<int32_t>(row / rows_each), positions.back()});
    visible += positions.back() + 1.0;
  }
  const std::vector<ops::cuda::QueryGroup> groups = ops::cuda::GroupQueries(places, kIndexHeads);
  const DeviceArray queries(rows * kIndexHeads * ops::cuda::kIndexDim, RandomCodes());
  const DeviceArray gates(rows * kIndexHeads * 4, RandomFloats());
  const DeviceArray cache(sequences * context * (ops::cuda::kIndexDim + 4), pages);
  const DeviceArray tables(Pages(sequences * context));
  const DeviceArray on_positions(positions);
  const DeviceArray on_groups(groups);
  const DeviceArray scores(rows * context * 4);
  const DeviceArray counter(sizeof(int32_t));
  ops::cuda::IndexScores work;
  work.heads = kIndexHeads;
  work.rows = rows;
  work.queries = queries.as();
  work.gates = gates.as<float>();
  work.cache = cache.as();
  work.cache_pages = sequences * context / ops::kPageTokens;
  work.page_tables = tables.as<int32_t>();
  work.table_stride = context / ops::kPageTokens;
  work.positions = on_positions.as<int32_t>();
  work.groups = on_groups.as<ops::cuda::QueryGroup>();
  work.group_count = static_cast<int32_t>(groups.size());
  work.scores = scores.as<float>();
  work.scores_stride = context;
  const std::string shape =
      sequences == 1 && rows > 2
          ? fmt::format("{} rows, {}K keys", rows, context / 1024)
          : fmt::format("{} sequences x {}, {}K keys", sequences, rows_each, context / 1024);
  bench.Time("index scores", shape,
             {Unit::kFp8, 2.0 * kIndexHeads * ops::cuda::kIndexDim * visible,
              4.0 * visible + static_cast<double>(queries.bytes() + cache.bytes())},
             {[&](int, cudaStream_t stream) {
                Check(Enqueue(work, counter.as<int32_t>(), bench.sms(), stream), "index scores");
              },
              rows <= kFewRows ? kPerGraph : 1});
}

void Selection(Bench& bench, int64_t rows, int64_t context) {
  const DeviceArray scores(rows * context * 4, RandomFloats());
  const DeviceArray positions(
      std::vector<int32_t>(static_cast<size_t>(rows), static_cast<int32_t>(context - 1)));
  const DeviceArray selection(rows * kTopK * 4);
  const DeviceArray bad(8);
  ops::cuda::TopK work;
  work.rows = rows;
  work.scores = scores.as<float>();
  work.scores_stride = context;
  work.positions = positions.as<int32_t>();
  work.top_k = kTopK;
  work.selection = selection.as<int32_t>();
  work.not_a_number = bad.as<int32_t>();
  bench.Time("top-k", fmt::format("2048 of {}K, {} rows", context / 1024, rows),
             {Unit::kNone, 0.0, static_cast<double>(scores.bytes() + selection.bytes())},
             {[&](int, cudaStream_t stream) { Check(Enqueue(work, stream), "a selection"); }});
}

// Keys of every part of the context; every launch of a graph has its own.
void Attention(Bench& bench, ops::CacheFormat format, int64_t rows, int64_t context) {
  const bool fp8 = format == ops::CacheFormat::kFp8;
  const bool few = rows <= kFewRows;
  const int64_t copies = few ? kPerGraph : 1;
  const int64_t row_bytes = ops::LatentRowBytes(format, ops::cuda::kLatent, ops::cuda::kRotated);
  constexpr int64_t kPatternRows = 8192;
  std::vector<std::byte> latents;
  for (int64_t row = 0; fp8 && row < kPatternRows; ++row) {
    const auto append = [&](std::span<const std::byte> pattern, int64_t bytes) {
      const auto part = pattern.subspan(row * bytes, bytes);
      latents.insert(latents.end(), part.begin(), part.end());
    };
    append(RandomCodes(), ops::cuda::kLatent);
    append(RandomScales(), ops::cuda::kLatent / ops::kQuantBlock * 4);
    append(RandomBf16(), ops::cuda::kRotated * 2);
  }
  std::mt19937 random(3);
  std::vector<int32_t> chosen;
  const int64_t apart = context / kTopK;
  for (int64_t i = 0; i < copies * rows * kTopK; ++i) {
    chosen.push_back(static_cast<int32_t>(i % kTopK * apart + random() % apart));
  }
  const DeviceArray q(rows * kHeads * ops::cuda::kLatentWidth * 2, RandomBf16());
  const DeviceArray cache(context * row_bytes, fp8 ? std::span<const std::byte>(latents) : RandomBf16());
  const DeviceArray tables(Pages(context));
  const DeviceArray sequences(rows * 4);
  const DeviceArray selection(chosen);
  const DeviceArray o(rows * kHeads * ops::cuda::kLatent * 2);
  const DeviceArray workspace(ops::cuda::WorkspaceBytes(bench.sms()));
  ops::cuda::SparseAttention work;
  work.rows = rows;
  work.heads = kHeads;
  work.scale = 0.0722F / 24.0F;  // as if keys and queries were normalised
  work.q_latent = q.as();
  work.q_stride = kHeads * ops::cuda::kLatentWidth;
  work.format = format;
  work.latents = cache.as();
  work.page_tables = tables.as<int32_t>();
  work.table_stride = context / ops::kPageTokens;
  work.sequences = sequences.as<int32_t>();
  work.top_k = kTopK;
  work.selection_stride = kTopK;
  work.o_latent = o.as();
  work.o_stride = kHeads * ops::cuda::kLatent;
  work.workspace = workspace.as();
  work.workspace_bytes = workspace.bytes();
  const double gathered = static_cast<double>(std::min(rows * kTopK, context) * row_bytes);
  bench.Time("sparse attention",
             fmt::format("{} cache, {} rows, 128 heads, 2048 of {}K keys", fp8 ? "fp8" : "bf16", rows,
                         context / 1024),
             {Unit::kBf16, 2.0 * static_cast<double>(rows * kHeads * kTopK) * (576 + 512),
              gathered + static_cast<double>(q.bytes() + o.bytes() + rows * kTopK * 4)},
             {[&](int i, cudaStream_t stream) {
                work.selection = selection.as<int32_t>(i % copies * rows * kTopK);
                Check(Enqueue(work, bench.counter(), bench.sms(), stream), "sparse attention");
              },
              few ? kPerGraph : 1});
}

}  // namespace

void TimeAttention(Bench& bench) {
  for (const int64_t rows : {1024, 4096}) {
    if (bench.Wants("index scores")) Scores(bench, 1, rows, kContext);
    if (bench.Wants("top-k")) Selection(bench, rows, kContext);
  }
  // Beside the anchors (one cache for all launches, as theirs had).
  for (const auto [sequences, rows, context] : {std::array{1, 1, 64},
                                                {1, 1, 128},
                                                {1, 2, 128},
                                                {16, 1, 64},
                                                {64, 1, 64},
                                                {64, 2, 64},
                                                {128, 1, 32}}) {
    if (bench.Wants("index scores")) Scores(bench, sequences, rows, int64_t{1024} * context);
  }
  for (const ops::CacheFormat format : {ops::CacheFormat::kFp8, ops::CacheFormat::kBf16}) {
    if (!bench.Wants("sparse attention")) break;
    Attention(bench, format, 4096, kContext);
    for (const int64_t rows : {128, 64, 32, 16, 8, 4, 2, 1}) Attention(bench, format, rows, kPool);
  }
}

}  // namespace sluice::bench
