#include "engine/rank_memory.h"

#include <algorithm>
#include <functional>

#include "engine/rank_host.h"
#include "model/shapes.h"
#include "model/weight_bytes.h"
#include "ops/cuda/device.h"

namespace sluice::engine {
namespace {

// What NCCL takes of a GPU: for the communicator of a group, which connects all its members by every channel,
// and for that of one direction between two ranks.
constexpr int64_t kOfGroup = int64_t{512} << 20;
constexpr int64_t kOfLink = int64_t{128} << 20;

int64_t DataPlaneBytes(const JobSettings& settings) {
  if (settings.data_plane != DataPlane::kNccl) return 0;
  const parallel::Grid& grid = settings.grid;
  return (grid.lanes > 1 ? kOfGroup : 0) + (grid.attn_tp > 1 ? kOfGroup : 0) +
         (grid.stages > 1 ? 2 * kOfLink : 0);
}

}  // namespace

std::vector<RankMemory> MemoryOfRanks(const JobSettings& settings, const checkpoint::Checkpoint& checkpoint,
                                      bool threads) {
  const auto& config = checkpoint.config();
  const ops::Numerics numerics = NumericsOf(settings.numerics, checkpoint.is_fp8());
  const ops::CacheFormat format = CacheFormatOf(settings, checkpoint.is_fp8());
  const std::vector<bool> fp8_experts = model::Fp8Experts(checkpoint, numerics);
  std::vector<RankMemory> ranks;
  std::set<std::string> counted;
  for (int rank = 0; rank < settings.grid.world(); ++rank) {
    const pipeline::RankOptions options = RankOptionsOf(settings, config, rank);
    const model::StageSlice slice = pipeline::SliceOf(options);
    const bool all_fp8 = std::ranges::all_of(slice.layers, [&](const parallel::LayerRange& range) {
      return std::all_of(fp8_experts.begin() + range.begin, fp8_experts.begin() + range.end, std::identity());
    });
    const pipeline::PassMemory pass = pipeline::PassMemoryOf(options, config, numerics, format, all_fp8);
    model::StageSlice answering = slice;
    answering.nextn = false;
    std::set<std::string>* held = threads ? &counted : nullptr;
    const int64_t answers = model::WeightBytes(checkpoint, numerics, answering, held);
    const int64_t mtp = model::NextnWeightBytes(checkpoint, numerics, slice, held);
    int64_t token_bytes = 0;
    for (const parallel::LayerRange& range : slice.layers) {
      token_bytes += model::CacheTokenBytes(config, format, range.begin, range.end);
    }
    ranks.push_back({answers + mtp, token_bytes * ops::kPageTokens, pass.activations + pass.hop,
                     ops::cuda::OpsBytes(settings.gpu, pass.ops), DataPlaneBytes(settings), mtp});
  }
  return ranks;
}

}  // namespace sluice::engine
