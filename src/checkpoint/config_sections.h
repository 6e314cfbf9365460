#pragma once

#include <nlohmann/json.hpp>

#include "checkpoint/config_reader.h"
#include "checkpoint/model_config.h"

namespace sluice::checkpoint {

// The rotary embedding of a config: "rope_parameters" (Transformers 5) or "rope_scaling" (key "type" or
// "rope_type"), and "rope_theta" at the top level or inside. Places that contradict each other are refused,
// a missing theta too: there is no built-in one.
RopeConfig ReadRope(const nlohmann::json& object, ConfigReader& reader);

// "quantization_config" must describe the block-FP8 format that is built. It decides nothing else: a linear
// is FP8 iff its weight_scale_inv exists.
void CheckQuantization(const nlohmann::json& section, ConfigReader& reader);

}  // namespace sluice::checkpoint
