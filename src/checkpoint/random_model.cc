#include "checkpoint/random_model.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/presets.h"
#include "checkpoint/recall_weights.h"
#include "text/byte_tokenizer.h"

namespace sluice::checkpoint {
namespace {

void CheckGain(double gain) {
  int exponent = 0;
  if (gain >= 1.0 && gain <= 65536.0 && std::frexp(gain, &exponent) == 0.5) return;
  Fail(ErrorKind::kUsage, "The embedding gain {} is no power of two from 1 to 65536.", gain);
}

int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

// Counts the tensors, scales included, and their bytes.
void Count(const std::vector<TensorSpec>& specs, WeightFormat format, int64_t& tensors, int64_t& bytes) {
  for (const TensorSpec& spec : specs) {
    const DType dtype = DTypeFor(spec.kind, format);
    ++tensors;
    bytes += Elements(spec.shape) * SizeOf(dtype);
    if (dtype != DType::kF8E4M3) continue;
    ++tensors;
    bytes += Elements(ScaleShape(spec.shape)) * SizeOf(DType::kF32);
  }
}

}  // namespace

WeightFormat ParseWeightFormat(const std::string& name) {
  if (name == "f32") return WeightFormat::kF32;
  if (name == "bf16") return WeightFormat::kBF16;
  if (name == "fp8") return WeightFormat::kFp8;
  Fail(ErrorKind::kUsage, "There is no weight format \"{}\"; choose f32, bf16 or fp8.", name);
}

CheckpointPlan PlanCheckpoint(const RandomModel& model) {
  CheckGain(model.embedding_gain);
  nlohmann::json json = PresetConfig(model.preset);
  json["torch_dtype"] = model.format == WeightFormat::kF32 ? "float32" : "bfloat16";
  if (model.format == WeightFormat::kFp8) {
    json["quantization_config"] = {{"activation_scheme", "dynamic"},
                                   {"fmt", "e4m3"},
                                   {"quant_method", "fp8"},
                                   {"scale_fmt", "ue8m0"},
                                   {"weight_block_size", {kScaleBlock, kScaleBlock}}};
  }
  if (model.layers != 0) {
    json["num_hidden_layers"] = model.layers;
    json["first_k_dense_replace"] = std::min(json["first_k_dense_replace"].get<int64_t>(), model.layers);
  }
  for (const std::string& text : model.config_overrides) ApplyOverride(text, json);

  CheckpointPlan plan;
  plan.config_text = json.dump(2) + "\n";
  Defects defects;
  const auto config =
      ParseModelConfig(plan.config_text, fmt::format("The config of preset {}", model.preset), defects);
  if (!config) Fail(ErrorKind::kUsage, "{}", defects.sentences().front());
  plan.config = *config;
  plan.specs = TensorsOf(*config, WholeModel(*config));
  Count(plan.specs, model.format, plan.tensors, plan.bytes);
  const std::vector<TensorSpec> nextn = NextnTensors(*config);
  Count(nextn, model.format, plan.nextn_tensors, plan.nextn_bytes);
  plan.tensors += plan.nextn_tensors;
  plan.bytes += plan.nextn_bytes;
  plan.specs.insert(plan.specs.end(), nextn.begin(), nextn.end());
  return plan;
}

DType DTypeFor(TensorKind kind, WeightFormat format) {
  if (format == WeightFormat::kF32 || kind == TensorKind::kRouterBias) return DType::kF32;
  return format == WeightFormat::kFp8 && kind == TensorKind::kLinear ? DType::kF8E4M3 : DType::kBF16;
}

std::optional<std::string> TextFileOf(const CheckpointPlan& plan, const std::string& name) {
  if (name == "config.json") return plan.config_text;
  const auto family = plan.config.architecture == "GlmMoeDsaForCausalLM" ? text::TokenizerFamily::kGlm
                                                                         : text::TokenizerFamily::kDeepSeek;
  if (name == "tokenizer.json") {
    return text::ByteTokenizerJson(static_cast<int32_t>(plan.config.vocab_size),
                                   plan.recall ? RecallWords() : std::vector<std::string>{}, family);
  }
  if (name == "tokenizer_config.json") {
    return text::ByteTokenizerConfigJson(plan.config.max_position_embeddings, family);
  }
  if (name == "generation_config.json") {
    const nlohmann::json generation = {
        {"_from_model_config", true}, {"bos_token_id", plan.config.bos_token_id},
        {"do_sample", true},          {"eos_token_id", plan.config.eos_token_ids},
        {"temperature", 1.0},         {"top_p", 0.95}};
    return generation.dump(2) + "\n";
  }
  return std::nullopt;
}

}  // namespace sluice::checkpoint
