#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "checkpoint/config_reader.h"
#include "checkpoint/model_config.h"

namespace sluice::checkpoint {

// The rotary embedding of a config: "rope_parameters" (Transformers 5) or "rope_scaling" (key "type" or
// "rope_type"), and "rope_theta" at the top level or inside. Places that contradict each other are refused,
// a missing theta too: there is no built-in one.
RopeConfig ReadRope(const nlohmann::json& object, ConfigReader& reader);

// The layers that share the selection of one before them (ModelConfig::shares_selection), from the first of
// these that is there; one that says something else than those after it is a defect:
//   indexer_types           a word per layer, "full" or "shared"
//   index_topk_pattern      a letter per layer, F or S
//   index_topk_freq         f, with index_skip_topk_offset o (2 where it is not there): layer i is full iff
//                           max(i - o + 1, 0) is a multiple of f
// Layer 0 must be full: it has none before it. Empty where every layer is.
std::vector<bool> ReadSharedIndexers(ConfigReader& reader, int64_t layers);

// "quantization_config" must describe the block-FP8 format that is built. It decides nothing else: a linear
// is FP8 iff its weight_scale_inv exists.
void CheckQuantization(const nlohmann::json& section, ConfigReader& reader);

}  // namespace sluice::checkpoint
