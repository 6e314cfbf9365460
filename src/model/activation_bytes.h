#pragma once

#include <cstdint>

#include "checkpoint/model_config.h"
#include "model/weights.h"
#include "ops/ops.h"
#include "parallel/row_split.h"
#include "step/step.h"

namespace sluice::model {

// The largest pass of a lane.
struct PassLimits {
  step::StepLimits step;
  int64_t rows = 0;          // of the step's that are the lane's own
  bool fp8_experts = false;  // in every layer of the slice that has experts (MoeWeights)
};
PassLimits LargestPass(const step::StepLimits& step, int lanes, parallel::SplitMode mode);

// Bytes of its arena that no pass within `limits` goes beyond, whatever the tokens and the router choose: at
// worst every row of the step is looked up in this lane's part of the vocabulary, or wants as many of this
// lane's experts as a row can choose. It follows the forward pass tensor by tensor, Scope by Scope; what it
// says of a pass is tested against Arena::peak_bytes.
int64_t ActivationBytes(const checkpoint::ModelConfig& config, ops::Numerics numerics,
                        ops::CacheFormat cache_format, const StageSlice& slice, const PassLimits& limits);

// The most that the ops of these passes are asked for.
ops::OpLimits OpLimitsOf(const checkpoint::ModelConfig& config, const StageSlice& slice,
                         const PassLimits& limits);

}  // namespace sluice::model
