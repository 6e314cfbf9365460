#pragma once

#include <filesystem>

#include "checkpoint/random_model.h"

namespace sluice::checkpoint {

// Whether a model path is a description of a random model, not a directory: it begins with "random:".
bool IsRandomPath(const std::filesystem::path& model_path);

// Reads random:PRESET or random:PRESET?KEY=VALUE&KEY=VALUE..., each key once. Keys:
//   layers          the first so many of the preset's layers
//   dense           first_k_dense_replace: of these, those with a dense MLP
//   seed            of all weights, 0 if not given
//   dtype           f32, bf16 or fp8; if not given fp8 for the published sizes, bf16 for the others
//   embedding_gain  RandomModel::embedding_gain
//   hidden, heads, experts, experts_per_token, index_heads, topk, vocab, context
//                   hidden_size, num_attention_heads, n_routed_experts, num_experts_per_tok, index_n_heads,
//                   index_topk, vocab_size, max_position_embeddings
//   any key of the preset's config.json whose value is a number
// Throws Error(kModelFiles) for anything else, naming it and what it may have been meant for. What the config
// makes of the values PlanCheckpoint says.
RandomModel ParseRandomPath(const std::filesystem::path& model_path);

}  // namespace sluice::checkpoint
