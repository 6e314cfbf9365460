#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "ops/ops.h"
#include "parallel/layer_cut.h"

namespace sluice::engine {

// A layer range that begins with a layer without an indexer: the selection that this layer shares comes over
// the hop with the rows, index_topk x 4 bytes for each.
struct SelectionCrossing {
  int range = 0;       // that it enters
  int64_t layer = 0;   // the first of the range
  int64_t source = 0;  // the layer that has selected
};
std::vector<SelectionCrossing> SelectionCrossingsOf(const checkpoint::ModelConfig& config,
                                                    const std::vector<parallel::LayerRange>& cut);

// Layers of each range of the cut nearest to `cut` whose ranges all begin with an indexer; empty where there
// is none.
std::vector<int64_t> SizesWithoutCrossings(const checkpoint::ModelConfig& config,
                                           const std::vector<parallel::LayerRange>& cut);

// What crosses where, what it costs beside the rows, and which --pp-layer-partition avoids it, as a line of
// the log at start. Empty where nothing crosses.
std::string SelectionLine(const checkpoint::ModelConfig& config, const std::vector<parallel::LayerRange>& cut,
                          ops::Numerics numerics);

}  // namespace sluice::engine
