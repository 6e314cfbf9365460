#include "engine/selection_crossings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>

namespace sluice::engine {

std::vector<SelectionCrossing> SelectionCrossingsOf(const checkpoint::ModelConfig& config,
                                                    const std::vector<parallel::LayerRange>& cut) {
  std::vector<SelectionCrossing> crossings;
  for (size_t range = 1; range < cut.size(); ++range) {
    const int64_t layer = cut[range].begin;
    int64_t source = layer;
    while (!config.HasIndexer(source)) --source;
    if (source < layer) crossings.push_back({static_cast<int>(range), layer, source});
  }
  return crossings;
}

std::vector<int64_t> SizesWithoutCrossings(const checkpoint::ModelConfig& config,
                                           const std::vector<parallel::LayerRange>& cut) {
  std::vector<int64_t> sizes;
  int64_t begin = 0;
  for (size_t range = 1; range < cut.size(); ++range) {
    int64_t nearest = 0;
    for (int64_t layer = begin + 1; layer < config.num_hidden_layers; ++layer) {
      const int64_t wanted = cut[range].begin;
      if (!config.HasIndexer(layer)) continue;
      if (nearest == 0 || std::abs(layer - wanted) < std::abs(nearest - wanted)) nearest = layer;
    }
    if (nearest == 0) return {};
    sizes.push_back(nearest - begin);
    begin = nearest;
  }
  sizes.push_back(config.num_hidden_layers - begin);
  return sizes;
}

std::string SelectionLine(const checkpoint::ModelConfig& config, const std::vector<parallel::LayerRange>& cut,
                          ops::Numerics numerics) {
  const std::vector<SelectionCrossing> crossings = SelectionCrossingsOf(config, cut);
  if (crossings.empty()) return "";
  std::vector<std::string> where;
  for (const SelectionCrossing& crossing : crossings) {
    where.push_back(fmt::format("layer {}, which shares that of layer {}", crossing.layer, crossing.source));
  }
  const std::vector<int64_t> sizes = SizesWithoutCrossings(config, cut);
  return fmt::format("selections cross the hop to {}: {} bytes a row, beside {} of hidden state; {}",
                     fmt::join(where, " and to "), config.index_topk * SizeOf(DType::kI32),
                     config.hidden_size * SizeOf(ops::ActivationType(numerics)),
                     sizes.empty() ? "no cut into so many ranges avoids it"
                                   : fmt::format("--pp-layer-partition {} avoids it", fmt::join(sizes, ",")));
}

}  // namespace sluice::engine
