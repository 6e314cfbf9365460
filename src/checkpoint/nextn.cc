#include "checkpoint/nextn.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"

namespace sluice::checkpoint {
namespace {

bool IsOfIndexer(const std::string& name) { return name.find(".self_attn.indexer.") != std::string::npos; }

bool HasIndexer(const Checkpoint& checkpoint, const std::vector<TensorSpec>& layers,
                const std::string& layer) {
  return std::ranges::any_of(layers, [&](const TensorSpec& spec) {
    return spec.name.starts_with(layer) && IsOfIndexer(spec.name) && checkpoint.Has(spec.name);
  });
}

// Published checkpoints that have these have copies of the model's.
bool IsCopyOfTheModels(const std::string& name) {
  return name.ends_with(".embed_tokens.weight") || name.ends_with(".shared_head.head.weight");
}

}  // namespace

std::vector<int64_t> NextnLayers(const ModelConfig& config) {
  std::vector<int64_t> layers;
  for (int64_t i = 0; i < config.num_nextn_predict_layers; ++i)
    layers.push_back(config.num_hidden_layers + i);
  return layers;
}

std::vector<TensorSpec> PresentNextnTensors(const Checkpoint& checkpoint, int64_t expert_begin,
                                            int64_t expert_end) {
  std::vector<TensorSpec> specs = NextnTensors(checkpoint.config(), expert_begin, expert_end);
  std::erase_if(specs, [&](const TensorSpec& spec) { return !checkpoint.Has(spec.name); });
  return specs;
}

void CheckNextnIsWhole(const Checkpoint& checkpoint, const std::string& model_path,
                       const std::string& asker) {
  const std::vector<int64_t> layers = NextnLayers(checkpoint.config());
  if (layers.empty()) {
    Fail(ErrorKind::kUsage,
         "{}: config.json of {} has no num_nextn_predict_layers above 0, so the model has no "
         "multi-token-prediction layer: leave {} out",
         asker, model_path, asker);
  }
  const std::vector<TensorSpec> specs = NextnTensors(checkpoint.config());
  for (const int64_t layer : layers) {
    const std::string prefix = LayerPrefix(layer);
    const bool has_indexer = HasIndexer(checkpoint, specs, prefix);
    for (const TensorSpec& spec : specs) {
      if (!spec.name.starts_with(prefix) || checkpoint.Has(spec.name)) continue;
      if (IsCopyOfTheModels(spec.name) || (IsOfIndexer(spec.name) && !has_indexer)) continue;
      Fail(ErrorKind::kModelFiles,
           "{}: tensor {} of multi-token-prediction layer {} is missing from {}: leave {} out, or use a "
           "checkpoint that has the layer",
           asker, spec.name, layer, model_path, asker);
    }
  }
}

std::string SkippedNextnLine(const Checkpoint& checkpoint, const std::string& remedy) {
  if (checkpoint.nextn_tensor_count() == 0) return "";
  std::vector<std::string> names;
  for (const int64_t layer : NextnLayers(checkpoint.config())) names.push_back(LayerPrefix(layer) + "*");
  return fmt::format("multi-token-prediction layers are not loaded: {} tensors of {} are skipped; {}",
                     checkpoint.nextn_tensor_count(), fmt::join(names, ", "), remedy);
}

}  // namespace sluice::checkpoint
