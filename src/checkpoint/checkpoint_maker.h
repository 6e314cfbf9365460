#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/tensor_map.h"

namespace sluice::checkpoint {

enum class WeightFormat : uint8_t { kF32, kBF16, kFp8 };

// "f32", "bf16" or "fp8"; throws Error(kUsage) for another.
WeightFormat ParseWeightFormat(const std::string& name);

struct MakeOptions {
  std::string preset = "tiny";
  std::vector<std::string> config_overrides;  // "key=value", see ApplyOverride
  WeightFormat format = WeightFormat::kBF16;
  uint64_t seed = 0;
  int64_t shard_bytes = 5'000'000'000;  // Hugging Face's default
  int threads = 1;                      // that compute values
};

// What a checkpoint will be, known before anything is written.
struct CheckpointPlan {
  std::string config_text;  // of config.json
  ModelConfig config;
  std::vector<TensorSpec> specs;  // every tensor but the scales
  int64_t tensors = 0;            // scales included
  int64_t bytes = 0;              // of all tensors
};

// Throws Error(kUsage) for an unknown preset, a bad override or a config that ReadModelConfig would refuse.
CheckpointPlan PlanCheckpoint(const MakeOptions& options);

// Writes config.json, generation_config.json, tokenizer.json, tokenizer_config.json, the shards and their
// index into `directory`, which is made if missing. dtypes by format:
//   f32   everything F32
//   bf16  everything BF16 but e_score_correction_bias, F32
//   fp8   linears F8_E4M3 with a power-of-two F32 weight_scale_inv per 128 x 128 block; norms, embedding,
//   router
//         gate, weights_proj, lm_head (eh_proj of a nextn layer) BF16; e_score_correction_bias F32
// Values are those of random_weights.h, rounded to nearest even. Throws Error(kUsage) before writing anything
// if the directory is not empty or the checkpoint does not fit on its disk.
void MakeCheckpoint(const std::filesystem::path& directory, const MakeOptions& options,
                    const CheckpointPlan& plan, const LoadProgress& progress);

}  // namespace sluice::checkpoint
