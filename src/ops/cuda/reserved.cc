#include "ops/cuda/reserved.h"

#include <algorithm>

#include "base/checked.h"
#include "ops/cuda/bf16_keys.h"
#include "ops/cuda/draw_tokens.h"
#include "ops/cuda/gemm.h"
#include "ops/cuda/index_scores.h"
#include "ops/cuda/sampling.h"
#include "ops/cuda/sparse_attention.h"
#include "ops/cuda/staging.h"

namespace sluice::ops::cuda {
namespace {

int64_t Aligned(int64_t bytes) { return CeilDiv(bytes, Staging::kAlignment) * Staging::kAlignment; }

int64_t ScoreBytes(const OpLimits& limits) {
  if (limits.positions <= limits.top_k) return 0;
  const int64_t row_bytes = CeilDiv(limits.positions, kPageTokens) * kPageTokens * SizeOf(DType::kF32);
  // A shorter context may fill kScoreBytes better than the longest does.
  return std::min(limits.places * row_bytes, std::max(kScoreBytes, row_bytes));
}

// Page tables once, as long as they can be; what the layers put one after the other is small.
int64_t GraphListBytes(const OpLimits& limits) {
  constexpr int64_t kOfLayers = int64_t{4} << 20;
  if (limits.graph_rows == 0) return 0;
  return kOfLayers + limits.graph_rows * CeilDiv(limits.positions, kPageTokens) * SizeOf(DType::kI32);
}

int64_t StagedBytes(const OpLimits& limits, int64_t workspace) {
  // Sequence and position of a row, its group, the page tables, and the pages whose keys become bf16.
  const int64_t pages = limits.sequences * CeilDiv(limits.positions, kPageTokens);
  const int64_t placed =
      limits.places * (2 * SizeOf(DType::kI32) + static_cast<int64_t>(sizeof(QueryGroup))) +
      (pages + std::min(pages, workspace / kBf16PageBytes)) * SizeOf(DType::kI32);
  // A join and the end of its range; a term and an offset, or a row's number, take less.
  const int64_t listed = (limits.list + 1) * static_cast<int64_t>(sizeof(NodeJoin) + sizeof(int64_t));
  const int64_t groups = limits.experts * static_cast<int64_t>(sizeof(RowGroup));
  constexpr int64_t kMostLists = 4;
  return std::max({placed, listed, groups, GraphListBytes(limits), kAdjustListBytes}) +
         kMostLists * Staging::kAlignment;
}

}  // namespace

int64_t ScoredRows(int64_t rows, int64_t stride) {
  return std::clamp<int64_t>(kScoreBytes / (stride * SizeOf(DType::kF32)), 1, rows);
}

QuantizedBytes BytesOfQuantized(int64_t rows, int64_t inputs) {
  return {Aligned(rows * CeilDiv(inputs, kQuantBlock) * SizeOf(DType::kF32)), rows * inputs};
}

SamplingSpace SpaceOfSampling(int64_t rows, int64_t drawn, int64_t adjusted, int64_t vocabulary,
                              int32_t top) {
  const auto words = static_cast<int32_t>(vocabulary);
  SamplingSpace space;
  space.out_bytes = rows * (3 + 2 * top) * SizeOf(DType::kI32);
  space.log_sum = Aligned(space.out_bytes);
  space.inside = space.log_sum + Aligned(rows * static_cast<int64_t>(sizeof(double)));
  space.adjusted = space.inside + Aligned(std::max(LikelihoodsBytes(rows, words), DrawBytes(drawn, words)));
  space.total = space.adjusted + adjusted * vocabulary * SizeOf(DType::kF32);
  return space;
}

Reserved ReservedFor(const OpLimits& limits, int sms) {
  const int64_t quantized = BytesOfQuantized(CeilDiv(limits.linear_inputs, kQuantBlock), kQuantBlock).total();
  const auto top = static_cast<int32_t>(std::min<int64_t>(kMostLogprobs, limits.vocabulary));
  const int64_t drawn = std::min(limits.logits_rows, limits.sequences);
  const SamplingSpace sampling = SpaceOfSampling(limits.logits_rows, drawn, drawn, limits.vocabulary, top);
  const int64_t workspace = std::max({quantized, ScoreBytes(limits), WorkspaceBytes(sms), sampling.total});
  return {workspace, sampling.out_bytes, Staging::SizeFor(StagedBytes(limits, workspace)),
          GraphListBytes(limits)};
}

int64_t ReservedBytes(const OpLimits& limits, int sms) {
  const Reserved bytes = ReservedFor(limits, sms);
  return bytes.workspace + bytes.staging + bytes.graph_lists + limits.recorded_layers * kGraphBytesOfLayer +
         kCounters * kCounterNumbers * SizeOf(DType::kI32) + static_cast<int64_t>(sizeof(LaunchRecord)) +
         PublishedBytes(sms);
}

}  // namespace sluice::ops::cuda
