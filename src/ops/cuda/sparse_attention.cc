#include "ops/cuda/sparse_attention.h"

#include <limits>
#include <numbers>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cuda/sparse_attention_launch.h"

namespace sluice::ops::cuda {
namespace {

// Clusters of 4 or 8 blocks lie inside a GPC, whose SMs are no multiple of either: of an H200's 132 SMs they
// can have 120.
int64_t ClusteredSms(int sms) { return int64_t{sms} * 120 / 132; }

// Of a row and 64 heads: so many may be shared by clusters.
int64_t MostFewItems(int sms) { return ClusteredSms(sms) / 4; }

// Blocks for each: as many as there is room for at once. With a second turn clusters take as long as a
// single block does with an item (docs/kernels.md).
int32_t Parts(int64_t items, int sms) {
  if (items <= ClusteredSms(sms) / 8) return 8;
  return items <= MostFewItems(sms) ? 4 : 1;
}

bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

}  // namespace

int64_t WorkspaceBytes(int sms) { return MostFewItems(sms) * kWeightsBytes; }

cudaError_t Enqueue(const SparseAttention& work, TileCounter tiles, int sms, cudaStream_t stream) {
  SLUICE_CHECK(work.format == CacheFormat::kFp8 || work.format == CacheFormat::kBf16,
               "latents are in cache format {}", static_cast<int>(work.format));
  SLUICE_CHECK(work.heads > 0 && work.heads <= kMostHeads, "{} heads", work.heads);
  SLUICE_CHECK(work.top_k > 0 && work.top_k <= kMostAttended, "{} keys of a row", work.top_k);
  SLUICE_CHECK(work.scale > 0, "a scale of {}", work.scale);
  SLUICE_CHECK(work.q_stride % 8 == 0 && work.o_stride % 8 == 0, "strides of {} and {} elements",
               work.q_stride, work.o_stride);
  SLUICE_CHECK(IsAligned(work.q_latent) && IsAligned(work.latents) && IsAligned(work.o_latent) &&
                   IsAligned(work.workspace),
               "operands are not aligned to 16 bytes");
  SLUICE_CHECK(sms > 0, "{} SMs", sms);
  SLUICE_CHECK(work.workspace_bytes >= WorkspaceBytes(sms), "a workspace of {} bytes where {} are needed",
               work.workspace_bytes, WorkspaceBytes(sms));
  if (work.rows == 0) return cudaSuccess;

  LaunchedAttention launched;
  launched.work = work;
  launched.head_groups = static_cast<int32_t>(CeilDiv(work.heads, kTileHeads));
  const int64_t items = work.rows * launched.head_groups;
  SLUICE_CHECK(items <= std::numeric_limits<int32_t>::max(), "{} rows", work.rows);
  launched.exponent_scale = static_cast<float>(work.scale * std::numbers::log2e);
  launched.tiles = tiles;
  launched.parts = Parts(items, sms);
  launched.weights = static_cast<uint8_t*>(work.workspace);
  if (launched.parts > 1) return LaunchFew(launched, stream);
  return Launch(launched, sms, stream);
}

}  // namespace sluice::ops::cuda
