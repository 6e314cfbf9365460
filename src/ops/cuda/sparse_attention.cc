#include "ops/cuda/sparse_attention.h"

#include <limits>
#include <numbers>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cuda/sparse_attention_launch.h"

namespace sluice::ops::cuda {
namespace {

// Rows are split over blocks only where there are fewer tiles than blocks, so this many partials are enough.
int64_t MostPartials(int64_t top_k, int sms) { return sms * CeilDiv(top_k, kPartition); }

bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

}  // namespace

int64_t WorkspaceBytes(int64_t top_k, int sms) {
  constexpr int64_t kArrivalBytes = 4;
  return MostPartials(top_k, sms) * kPartialBytes + sms * kArrivalBytes;
}

cudaError_t Enqueue(const SparseAttention& work, TileCounter tiles, int sms, cudaStream_t stream) {
  SLUICE_CHECK(work.format == CacheFormat::kFp8 || work.format == CacheFormat::kBf16,
               "latents are in cache format {}", static_cast<int>(work.format));
  SLUICE_CHECK(work.heads > 0 && work.heads <= kMostHeads, "{} heads", work.heads);
  SLUICE_CHECK(work.top_k > 0 && work.top_k <= kMostAttended, "{} keys of a row", work.top_k);
  SLUICE_CHECK(work.scale > 0, "a scale of {}", work.scale);
  SLUICE_CHECK(work.q_stride % 8 == 0 && work.o_stride % 2 == 0, "strides of {} and {} elements",
               work.q_stride, work.o_stride);
  SLUICE_CHECK(IsAligned(work.q_latent) && IsAligned(work.latents) && IsAligned(work.workspace),
               "operands are not aligned to 16 bytes");
  SLUICE_CHECK(sms > 0, "{} SMs", sms);
  SLUICE_CHECK(work.workspace_bytes >= WorkspaceBytes(work.top_k, sms),
               "a workspace of {} bytes where {} are needed", work.workspace_bytes,
               WorkspaceBytes(work.top_k, sms));
  if (work.rows == 0) return cudaSuccess;

  LaunchedAttention launched;
  launched.work = work;
  launched.head_groups = static_cast<int32_t>(CeilDiv(work.heads, kTileHeads));
  launched.partitions = static_cast<int32_t>(CeilDiv(work.top_k, kPartition));
  const int64_t items = work.rows * launched.head_groups;
  SLUICE_CHECK(items <= std::numeric_limits<int32_t>::max(), "{} rows", work.rows);
  launched.split = launched.partitions > 1 && items < sms;
  launched.exponent_scale = static_cast<float>(work.scale * std::numbers::log2e);
  launched.partials = static_cast<uint8_t*>(work.workspace);
  launched.arrivals =
      reinterpret_cast<int32_t*>(launched.partials + MostPartials(work.top_k, sms) * kPartialBytes);
  launched.tiles = tiles;
  return Launch(launched, sms, stream);
}

}  // namespace sluice::ops::cuda
