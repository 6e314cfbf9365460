#include "ops/cuda/sparse_attention.h"

#include <algorithm>
#include <limits>
#include <numbers>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cuda/sparse_attention_launch.h"

namespace sluice::ops::cuda {
namespace {

int64_t HeadGroups(int64_t heads) { return CeilDiv(heads, kTileHeads); }

// Of a row and a head group: so few are shared by several SMs.
int64_t MostFewItems(int sms) { return sms / 2; }

// Blocks of threads that share an item's channels: as many as there is room for at once.
int32_t Parts(int64_t items, int sms) {
  for (const int32_t parts : {kMostParts, 4}) {
    if (items * parts <= sms) return parts;
  }
  return 2;
}

// Blocks of keys for each block of threads that makes scores, so that all run at once. With 64 heads two
// warpgroups take them in turn, so two hardly take longer than one: two where one leaves no room for the
// blocks of threads that make values, which fill an SM each and find and gather their keys meanwhile, and two
// do.
int32_t StretchBlocks(const LaunchedAttention& launched, int sms) {
  const int64_t rows = launched.work.rows;
  const int64_t blocks = CeilDiv(launched.work.top_k, kScoredKeys);
  const int64_t least = CeilDiv(blocks, std::min(blocks, sms / rows));
  const auto fit = [&](int64_t stretch) {
    return rows * (CeilDiv(blocks, stretch) + launched.head_groups * launched.parts) <= sms;
  };
  const bool pairs = launched.head_groups == 1 && least == 1 && !fit(1) && fit(2);
  return static_cast<int32_t>(pairs ? 2 : least);
}

// Head groups for each of them: 1 where there is room for two such blocks, and for those of the launches
// behind beside them.
int32_t ScoreGroups(const LaunchedAttention& launched, int sms) {
  const int64_t stretches = CeilDiv(CeilDiv(launched.work.top_k, kScoredKeys), launched.stretch_blocks);
  const int64_t blocks = launched.work.rows * stretches * launched.head_groups;
  return 2 * blocks <= sms ? 1 : launched.head_groups;
}

cudaError_t EnqueueFew(LaunchedAttention launched, int sms, cudaStream_t stream) {
  launched.parts = Parts(launched.work.rows * launched.head_groups, sms);
  launched.stretch_blocks = StretchBlocks(launched, sms);
  launched.score_groups = ScoreGroups(launched, sms);
  launched.workspace = static_cast<uint8_t*>(launched.work.workspace);
  SLUICE_CHECK(launched.work.published != nullptr || ValuesMakeWeights(launched.parts));
  if (const cudaError_t error = LaunchScores(launched, stream); error != cudaSuccess) return error;
  const cudaError_t error = LaunchValues(launched, stream);
  if (error != cudaSuccess && !ValuesMakeWeights(launched.parts)) {
    // It would have made them 0 again.
    cudaMemsetAsync(launched.work.published, 0, PublishedBytes(sms), stream);
  }
  return error;
}

}  // namespace

bool AreFew(int64_t rows, int64_t heads, int sms) { return rows * HeadGroups(heads) <= MostFewItems(sms); }

int64_t WorkspaceBytes(int sms) { return MostFewItems(sms) * kItemBytes; }

int64_t PublishedBytes(int sms) {
  return sms / kMostParts * (kMostAttended / kScoredKeys) * kTileHeads *
         static_cast<int64_t>(sizeof(uint32_t));
}

cudaError_t Enqueue(const SparseAttention& work, TileCounter tiles, int sms, cudaStream_t stream) {
  SLUICE_CHECK(work.format == CacheFormat::kFp8 || work.format == CacheFormat::kBf16,
               "latents are in cache format {}", static_cast<int>(work.format));
  SLUICE_CHECK(work.heads > 0 && work.heads <= kMostHeads, "{} heads", work.heads);
  SLUICE_CHECK(work.top_k > 0 && work.top_k <= kMostAttended, "{} keys of a row", work.top_k);
  SLUICE_CHECK(work.scale > 0, "a scale of {}", work.scale);
  SLUICE_CHECK(work.q_stride % 8 == 0 && work.o_stride % 8 == 0, "strides of {} and {} elements",
               work.q_stride, work.o_stride);
  SLUICE_CHECK(IsAligned(work.q_latent) && IsAligned(work.latents) && IsAligned(work.o_latent) &&
                   IsAligned(work.workspace) && IsAligned(work.published),
               "operands are not aligned to 16 bytes");
  SLUICE_CHECK(sms > 0, "{} SMs", sms);
  const bool few = AreFew(work.rows, work.heads, sms);
  SLUICE_CHECK(!few || work.workspace_bytes >= WorkspaceBytes(sms),
               "a workspace of {} bytes where {} are needed", work.workspace_bytes, WorkspaceBytes(sms));
  if (work.rows == 0) return cudaSuccess;

  LaunchedAttention launched;
  launched.work = work;
  launched.head_groups = static_cast<int32_t>(HeadGroups(work.heads));
  SLUICE_CHECK(work.rows * launched.head_groups <= std::numeric_limits<int32_t>::max(), "{} rows", work.rows);
  launched.exponent_scale = static_cast<float>(work.scale * std::numbers::log2e);
  launched.tiles = tiles;
  if (few) return EnqueueFew(launched, sms, stream);
  return Launch(launched, sms, stream);
}

}  // namespace sluice::ops::cuda
