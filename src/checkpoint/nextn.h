#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/tensor_map.h"

// Nextn (multi-token-prediction) layers: decoder layers behind the last that predict a token further. The
// published checkpoints have one, of id num_hidden_layers. A model answers without them.
namespace sluice::checkpoint {

// Their ids, as config.json calls for them; whether the checkpoint has them is another matter.
std::vector<int64_t> NextnLayers(const ModelConfig& config);

// Of NextnTensors, in their order, those that the checkpoint has. The arguments as there.
std::vector<TensorSpec> PresentNextnTensors(const Checkpoint& checkpoint, int64_t expert_begin,
                                            int64_t expert_end);

// Throws Error(kUsage) where config.json calls for no nextn layers, and Error(kModelFiles), one sentence that
// names the first tensor missing, unless each is whole in `checkpoint`, which was opened from `model_path`.
// One may do without an embedding and a head of its own, which are then the model's, and without an indexer;
// of an indexer all tensors or none. Shapes and dtypes were checked as it was opened. The sentence begins
// with `asker`, which is who wants them: a flag.
void CheckNextnIsWhole(const Checkpoint& checkpoint, const std::string& model_path, const std::string& asker);

// For the log, where they are not loaded: which tensors are left out, by name; empty if there are none.
std::string SkippedNextnLine(const Checkpoint& checkpoint, const std::string& remedy);

}  // namespace sluice::checkpoint
