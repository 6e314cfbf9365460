#pragma once

#include "checkpoint/model_config.h"
#include "ops/rope.h"

namespace sluice::checkpoint {

// The rotary part of a config as the ops take it.
inline ops::RopeScaling RopeScalingOf(const ModelConfig& c) {
  return {c.rope.theta,  c.qk_rope_head_dim,    c.rope.yarn,
          c.rope.factor, c.rope.beta_fast,      c.rope.beta_slow,
          c.rope.mscale, c.rope.mscale_all_dim, c.rope.original_max_position_embeddings};
}

}  // namespace sluice::checkpoint
