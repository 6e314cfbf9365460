#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "checkpoint/tensor_map.h"
#include "tensor/dtype.h"

// A model whose weights are random: what `sluice checkpoint make` writes, and what a model path of the form
// random:... makes where it is wanted. Both give the same tensors for the same description.
namespace sluice::checkpoint {

enum class WeightFormat : uint8_t { kF32, kBF16, kFp8 };

// "f32", "bf16" or "fp8"; throws Error(kUsage) for another.
WeightFormat ParseWeightFormat(const std::string& name);

struct RandomModel {
  std::string preset = "tiny";
  int64_t layers = 0;                         // the first so many of the preset's layers; 0: all
  std::vector<std::string> config_overrides;  // "key=value", see ApplyOverride
  WeightFormat format = WeightFormat::kBF16;
  uint64_t seed = 0;
  // Factor on the embedding, a power of two: the residual stream is then this many times what a layer adds
  // to it. At 1 rounding differences grow from layer to layer as they do in no trained model, until two
  // faithful implementations agree on nothing (tests/golden/model/README.md).
  double embedding_gain = 1.0;
};

// What a random model comes to.
struct CheckpointPlan {
  std::string config_text;  // of config.json
  ModelConfig config;
  std::vector<TensorSpec> specs;  // every tensor but the scales; those of nextn layers last
  int64_t tensors = 0;            // scales included
  int64_t bytes = 0;              // of all tensors
  int64_t nextn_tensors = 0;      // of these, those of nextn layers
  int64_t nextn_bytes = 0;
  bool recall = false;  // weights by formula and a tokenizer with words: recall_weights.h
};

// Throws Error(kUsage) for an unknown preset, a bad override, a gain that is no power of two from 1 to 65536,
// or a config that ReadModelConfig would refuse.
CheckpointPlan PlanCheckpoint(const RandomModel& model);

// dtypes by format:
//   f32   everything F32
//   bf16  everything BF16 but e_score_correction_bias, F32
//   fp8   linears F8_E4M3 with a power-of-two F32 weight_scale_inv per 128 x 128 block; norms, embedding,
//         router gate, weights_proj, lm_head (eh_proj of a nextn layer) BF16; e_score_correction_bias F32
DType DTypeFor(TensorKind kind, WeightFormat format);

// The files beside the tensors.
inline constexpr const char* kTextFiles[] = {"generation_config.json", "tokenizer.json",
                                             "tokenizer_config.json", "config.json"};
// The text of one of them; nullopt for another name. Throws Error(kUsage) for a vocabulary that is too small
// for the tokenizer.
std::optional<std::string> TextFileOf(const CheckpointPlan& plan, const std::string& name);

}  // namespace sluice::checkpoint
