#include <algorithm>

#include "base/checked.h"
#include "ops/cuda/back_end.h"
#include "ops/cuda/bf16_keys.h"
#include "ops/cuda/bf16_keys_plan.h"
#include "ops/cuda/check.h"
#include "ops/cuda/index_rows.h"
#include "ops/cuda/index_scores.h"
#include "ops/cuda/latent_rows.h"
#include "ops/cuda/reserved.h"
#include "ops/cuda/rope.h"
#include "ops/cuda/sparse_attention.h"
#include "ops/cuda/top_k.h"
#include "ops/cuda/write_cache.h"

namespace sluice::ops::cuda {
namespace {

// Page numbers are not known when a graph is recorded; what the cache does not have is not named.
constexpr int64_t kMostCachePages = int64_t{1} << 24;

int64_t LongestTable(std::span<const PageTable> pages) {
  int64_t longest = 1;
  for (const PageTable& table : pages) longest = std::max(longest, std::ssize(table));
  return longest;
}

}  // namespace

int64_t CudaOps::StagedBytes(std::span<const RowPlace> places, std::span<const PageTable> pages) {
  return SizeOf(DType::kI32) * (2 * std::ssize(places) + LongestTable(pages) * std::ssize(pages));
}

CudaOps::PlacesOnDevice CudaOps::PutPlaces(std::span<const RowPlace> places,
                                           std::span<const PageTable> pages) {
  PlacesOnDevice result;
  for (const Brought& earlier : brought_) {
    if (earlier.pages.data() != pages.data()) continue;
    result.page_tables = earlier.at.page_tables;
    if (earlier.places.data() == places.data() && earlier.places.size() == places.size()) return earlier.at;
  }
  std::vector<int32_t> sequences;
  std::vector<int32_t> positions;
  for (const RowPlace& place : places) {
    sequences.push_back(place.sequence);
    positions.push_back(place.position);
  }
  result.sequences = Put(sequences);
  result.positions = Put(positions);
  result.table_stride = graphs_.Active() ? CeilDiv(most_positions_, kPageTokens) : LongestTable(pages);
  if (result.page_tables == nullptr) {
    std::vector<int32_t> tables;
    for (const PageTable& table : pages) {
      tables.insert(tables.end(), table.begin(), table.end());
      tables.resize(tables.size() + static_cast<size_t>(result.table_stride - std::ssize(table)), 0);
    }
    result.page_tables = Put(tables);
  }
  if (graphs_.Active()) brought_.push_back({places, pages, result});
  return result;
}

void CudaOps::RopeAngles(std::span<const RowPlace> places, std::span<const float> inv_freq,
                         const Tensor& out) {
  std::vector<int32_t> positions;
  for (const RowPlace& place : places) positions.push_back(place.position);
  ReserveLists(static_cast<int64_t>(inv_freq.size_bytes()) + std::ssize(positions) * SizeOf(DType::kI32), 2);
  cuda::RopeAngles work;
  work.rows = std::ssize(places);
  work.positions = Put(positions);
  work.inv_freq = Put(inv_freq);
  work.pairs = static_cast<int32_t>(inv_freq.size());
  work.angles = out.Row<float>(0);
  SLUICE_CHECK(out.contiguous());
  Run(work, out.data, "RopeAngles of {} rows", work.rows);
}

void CudaOps::MultiplyHeads(const char* op, const Tensor& x, int64_t x_step, const WeightGroup& weights,
                            const Tensor& y, int64_t y_step) {
  Gemm gemm;
  gemm.type = DType::kBF16;
  gemm.rows = x.rows;
  gemm.inputs = weights.cols();
  gemm.outputs = weights.rows();
  gemm.weights = gemm.batches = weights.count();
  gemm.x = x.data;
  gemm.x_stride = x.stride;
  gemm.x_step = x_step;
  gemm.w = dynamic_cast<const PackedGroup&>(weights).packed.data();
  gemm.y = y.data;
  gemm.y_stride = y.stride;
  gemm.y_step = y_step;
  RunTiles(gemm, y.data, "{} of {} rows, {} heads", op, x.rows, weights.count());
}

void CudaOps::AbsorbQuery(const AttentionShape& shape, const Tensor& q, const WeightGroup& up_keys,
                          const Tensor& angles, const Tensor& q_latent) {
  if (q.rows == 0) return;
  MultiplyHeads("AbsorbQuery", q, shape.query_width(), up_keys, q_latent, shape.latent_width());
  RotateQueries work;
  work.rows = q.rows;
  work.heads = static_cast<int32_t>(shape.heads);
  work.nope = static_cast<int32_t>(shape.nope);
  work.rope = static_cast<int32_t>(shape.rope);
  work.latent = static_cast<int32_t>(shape.latent);
  work.q = q.data;
  work.q_stride = q.stride;
  work.angles = angles.Row<const float>(0);
  work.q_latent = q_latent.data;
  work.q_latent_stride = q_latent.stride;
  Run(work, q_latent.data, "AbsorbQuery's rotation of {} rows, {} heads", q.rows, shape.heads);
}

void CudaOps::ValueUp(const AttentionShape& shape, const Tensor& o_latent, const WeightGroup& up_values,
                      const Tensor& o) {
  if (o.rows == 0) return;
  MultiplyHeads("ValueUp", o_latent, shape.latent, up_values, o, shape.value);
}

void CudaOps::LatentRows(const AttentionShape& shape, const Tensor& kv, const Tensor& norm, float eps,
                         const Tensor& angles, const Tensor& rows) {
  cuda::LatentRows work;
  work.rows = kv.rows;
  work.latent = static_cast<int32_t>(shape.latent);
  work.rope = static_cast<int32_t>(shape.rope);
  work.kv = kv.data;
  work.kv_stride = kv.stride;
  work.norm = norm.Row<const float>(0);
  work.eps = eps;
  work.angles = angles.Row<const float>(0);
  work.out = rows.data;
  work.out_stride = rows.stride;
  work.bf16_cache = rows.cols == LatentRowBytes(CacheFormat::kBf16, shape.latent, shape.rope);
  Run(work, rows.data, "LatentRows of {} rows", kv.rows);
}

void CudaOps::IndexQueries(const IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                           const Tensor& angles, const Tensor& queries, const Tensor& gates) {
  SLUICE_CHECK(shape.dim == kIndexDim && queries.contiguous() && gates.contiguous());
  cuda::IndexQueries work;
  work.rows = q.rows;
  work.heads = static_cast<int32_t>(shape.heads);
  work.rope = static_cast<int32_t>(shape.rope);
  work.rope_interleaved = shape.rope_interleaved;
  work.q = q.data;
  work.q_stride = q.stride;
  work.gate_logits = gate_logits.Row<const float>(0);
  work.gate_logits_stride = gate_logits.stride;
  work.angles = angles.Row<const float>(0);
  work.queries = queries.data;
  work.gates = gates.Row<float>(0);
  Run(work, queries.data, "IndexQueries of {} rows, {} heads", q.rows, shape.heads);
}

void CudaOps::IndexKeyRows(const IndexerShape& shape, const Tensor& k, const Tensor& weight,
                           const Tensor& bias, const Tensor& angles, const Tensor& rows) {
  SLUICE_CHECK(shape.dim == kIndexDim);
  cuda::IndexKeyRows work;
  work.rows = k.rows;
  work.rope = static_cast<int32_t>(shape.rope);
  work.rope_interleaved = shape.rope_interleaved;
  work.k = k.data;
  work.k_stride = k.stride;
  work.weight = weight.Row<const float>(0);
  work.bias = bias.Row<const float>(0);
  work.angles = angles.Row<const float>(0);
  work.out = rows.data;
  work.out_stride = rows.stride;
  Run(work, rows.data, "IndexKeyRows of {} rows", k.rows);
}

void CudaOps::SelectKeys(const IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                         const PagedCache& index_keys, std::span<const RowPlace> places,
                         std::span<const PageTable> pages, const Tensor& selection) {
  SLUICE_CHECK(queries.contiguous() && gates.contiguous() && selection.contiguous());
  // A graph is launched again with other positions.
  int64_t context = graphs_.Active() ? most_positions_ : 1;
  for (const RowPlace& place : places) context = std::max(context, place.position + int64_t{1});
  const int64_t stride = CeilDiv(context, kPageTokens) * kPageTokens;
  // Where every row takes all that it sees nothing is scored.
  const bool scored = context > selection.cols;
  const int64_t slab = scored ? std::min<int64_t>(ScoredRows(std::ssize(places), stride), kMostQueryGroups)
                              : std::ssize(places);
  for (int64_t first = 0; first < std::ssize(places); first += slab) {
    const auto rows = std::min(slab, std::ssize(places) - first);
    const std::span here = places.subspan(static_cast<size_t>(first), static_cast<size_t>(rows));
    const std::vector<QueryGroup> groups = GroupQueries(here, shape.heads);
    ReserveLists(StagedBytes(here, pages) + std::ssize(groups) * static_cast<int64_t>(sizeof(QueryGroup)), 4);
    const PlacesOnDevice at = PutPlaces(here, pages);
    TopK choice;
    choice.rows = rows;
    choice.positions = at.positions;
    choice.top_k = static_cast<int32_t>(selection.cols);
    choice.selection = selection.Row<int32_t>(first);
    choice.not_a_number = not_a_number_;
    choice.scores_stride = stride;
    if (scored) {
      IndexScores work;
      work.heads = shape.heads;
      work.rows = rows;
      work.queries = queries.Row<const uint8_t>(first);
      work.gates = gates.Row<const float>(first);
      work.cache = index_keys.base;
      work.cache_pages = kMostCachePages;
      work.page_tables = at.page_tables;
      work.table_stride = at.table_stride;
      work.positions = at.positions;
      work.groups = Put(groups);
      work.group_count = static_cast<int32_t>(groups.size());
      work.scores = reinterpret_cast<float*>(Workspace(rows * stride * SizeOf(DType::kF32)));
      work.scores_stride = stride;
      work.record = reinterpret_cast<LaunchRecord*>(scoring_launches_.data());
      const auto counter = reinterpret_cast<TileCounter>(scoring_counter_.data());
      RunAs([&] { return Enqueue(work, counter, Blocks(), stream_); }, work.scores,
            "SelectKeys' scores of {} rows, {} keys", rows, context);
      choice.scores = work.scores;
    }
    Run(choice, choice.selection, "SelectKeys of {} rows, {} keys", rows, context);
  }
}

void CudaOps::SparseAttention(const AttentionShape& shape, const Tensor& q_latent, const PagedCache& latents,
                              std::span<const RowPlace> places, std::span<const PageTable> pages,
                              const Tensor& selection, float scale, const Tensor& o_latent) {
  SLUICE_CHECK(shape.latent == kLatent && shape.rope == kRotated);
  // Not of few rows, which would not pay; nor in a graph, which is launched again with other places.
  Bf16KeysPlan bf16;
  if (latents.format == CacheFormat::kFp8 && !AreFew(q_latent.rows, shape.heads, Blocks()) &&
      !graphs_.Active()) {
    bf16 = PlanBf16Keys(places, pages, shape.heads, selection.cols, WorkspaceRoom());
  }
  const int64_t bf16_pages = std::ssize(bf16.cache_pages);
  const auto tables = bf16_pages > 0 ? std::span<const PageTable>(bf16.tables) : pages;
  ReserveLists(StagedBytes(places, tables) + bf16_pages * SizeOf(DType::kI32), 4);
  const PlacesOnDevice at = PutPlaces(places, tables);
  const auto attend = [&](int64_t first, int64_t rows, const PagedCache& keys) {
    cuda::SparseAttention work;
    work.rows = rows;
    work.heads = shape.heads;
    work.scale = scale;
    work.q_latent = q_latent.RowRange(first, rows).data;
    work.q_stride = q_latent.stride;
    work.format = keys.format;
    work.latents = keys.base;
    work.page_tables = at.page_tables;
    work.table_stride = at.table_stride;
    work.sequences = at.sequences + first;
    work.selection = selection.Row<const int32_t>(first);
    work.top_k = selection.cols;
    work.selection_stride = selection.stride;
    work.o_latent = o_latent.RowRange(first, rows).data;
    work.o_stride = o_latent.stride;
    if (AreFew(rows, shape.heads, Blocks())) {
      work.workspace_bytes = WorkspaceBytes(Blocks());
      work.workspace = Workspace(work.workspace_bytes);
      work.published = reinterpret_cast<uint32_t*>(published_.data());
    }
    RunTiles(work, work.o_latent, "SparseAttention of {} rows, {} heads", rows, shape.heads);
  };
  if (bf16_pages == 0) return attend(0, q_latent.rows, latents);
  // Keys come into the workspace when the rows before are through with it.
  if (bf16.first_row > 0) attend(0, bf16.first_row, latents);
  const Bf16Keys keys{bf16_pages, latents.base, Put(bf16.cache_pages),
                      Workspace(bf16_pages * kBf16PageBytes)};
  RunAs([&] { return Enqueue(keys, Blocks(), stream_); }, keys.keys, "SparseAttention's keys of {} pages",
        bf16_pages);
  // Not few, which would take the workspace (bf16_keys_plan.cc).
  attend(bf16.first_row, q_latent.rows - bf16.first_row,
         {static_cast<std::byte*>(keys.keys), CacheFormat::kBf16});
}

void CudaOps::WriteLatents(const Tensor& rows, std::span<const RowPlace> places,
                           std::span<const PageTable> pages, const PagedCache& latents) {
  ReserveLists(StagedBytes(places, pages), 3);
  const PlacesOnDevice at = PutPlaces(places, pages);
  cuda::WriteLatents work{{rows.rows, rows.data, rows.stride, at.sequences, at.positions, at.page_tables,
                           at.table_stride, latents.base},
                          rows.cols};
  Run(work, latents.base, "WriteLatents of {} rows", rows.rows);
}

void CudaOps::WriteIndexKeys(const Tensor& rows, std::span<const RowPlace> places,
                             std::span<const PageTable> pages, const PagedCache& index_keys) {
  ReserveLists(StagedBytes(places, pages), 3);
  const PlacesOnDevice at = PutPlaces(places, pages);
  cuda::WriteIndexKeys work{{rows.rows, rows.data, rows.stride, at.sequences, at.positions, at.page_tables,
                             at.table_stride, index_keys.base}};
  Run(work, index_keys.base, "WriteIndexKeys of {} rows", rows.rows);
}

}  // namespace sluice::ops::cuda
