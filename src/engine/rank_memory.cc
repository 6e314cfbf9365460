#include "engine/rank_memory.h"

#include "engine/rank_host.h"
#include "model/shapes.h"
#include "model/weight_bytes.h"
#include "ops/cuda/device.h"

namespace sluice::engine {

std::vector<RankMemory> MemoryOfRanks(const JobSettings& settings, const checkpoint::Checkpoint& checkpoint) {
  const auto& config = checkpoint.config();
  const ops::Numerics numerics = NumericsOf(settings.numerics, checkpoint.is_fp8());
  const ops::CacheFormat format = CacheFormatOf(settings, checkpoint.is_fp8());
  std::vector<RankMemory> ranks;
  for (int rank = 0; rank < settings.grid.world(); ++rank) {
    const pipeline::RankOptions options = RankOptionsOf(settings, config, rank);
    const model::StageSlice slice = pipeline::SliceOf(options);
    const pipeline::PassMemory pass = pipeline::PassMemoryOf(options, config, numerics, format);
    int64_t layers = 0;
    for (const parallel::LayerRange& range : slice.layers) layers += range.size();
    ranks.push_back({model::WeightBytes(checkpoint, numerics, slice),
                     model::CacheShapeOf(config, format).token_bytes() * layers * ops::kPageTokens,
                     pass.activations + pass.hop, ops::cuda::OpsBytes(settings.gpu, pass.ops)});
  }
  return ranks;
}

}  // namespace sluice::engine
