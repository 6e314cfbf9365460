#pragma once

#include <cmath>
#include <vector>

#include "cache/stage_cache.h"
#include "checkpoint/model_config.h"
#include "checkpoint/rope_scaling.h"
#include "ops/ops.h"

// What the ops need to know of a config.
namespace sluice::model {

inline ops::AttentionShape AttentionShapeOf(const checkpoint::ModelConfig& c) {
  return {c.num_attention_heads, c.qk_nope_head_dim, c.qk_rope_head_dim, c.kv_lora_rank, c.v_head_dim};
}
inline ops::IndexerShape IndexerShapeOf(const checkpoint::ModelConfig& c) {
  return {c.index_n_heads, c.index_head_dim, c.qk_rope_head_dim, c.index_topk, c.indexer_rope_interleave};
}
inline ops::RouterShape RouterShapeOf(const checkpoint::ModelConfig& c) {
  return {c.n_routed_experts,    c.n_group,        c.topk_group,
          c.num_experts_per_tok, c.norm_topk_prob, static_cast<float>(c.routed_scaling_factor)};
}
using checkpoint::RopeScalingOf;
inline ops::CacheFormat CacheFormatOf(ops::Numerics numerics) {  // where nothing else is asked for
  return numerics == ops::Numerics::kExact ? ops::CacheFormat::kF32 : ops::CacheFormat::kFp8;
}
inline cache::CacheShape CacheShapeOf(const checkpoint::ModelConfig& c, ops::CacheFormat format) {
  return {format, c.kv_lora_rank, c.qk_rope_head_dim, c.index_head_dim};
}
// Bytes that a token takes in the caches of layers [begin, end).
inline int64_t CacheTokenBytes(const checkpoint::ModelConfig& c, ops::CacheFormat format, int64_t begin,
                               int64_t end) {
  return CacheShapeOf(c, format).token_bytes(end - begin, c.IndexersIn(begin, end));
}

}  // namespace sluice::model
