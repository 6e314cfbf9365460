#include "checkpoint/checkpoint_maker.h"

#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/compute_pool.h"
#include "base/error.h"
#include "checkpoint/presets.h"
#include "checkpoint/random_weights.h"
#include "text/byte_tokenizer.h"

namespace sluice::checkpoint {
namespace {

DType DTypeFor(TensorKind kind, WeightFormat format) {
  if (format == WeightFormat::kF32 || kind == TensorKind::kRouterBias) return DType::kF32;
  return format == WeightFormat::kFp8 && kind == TensorKind::kLinear ? DType::kF8E4M3 : DType::kBF16;
}

template <typename T>
void Store(std::span<std::byte> out, int64_t index, T value) {
  std::memcpy(out.data() + index * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

// Values rounded to F32 or BF16, a stripe of rows at a time.
void FillPlain(const RandomTensor& tensor, DType dtype, ComputePool& pool, std::span<std::byte> out) {
  pool.ParallelFor(CeilDiv(tensor.rows(), kScaleBlock), [&](int64_t stripe) {
    const int64_t row_end = std::min((stripe + 1) * kScaleBlock, tensor.rows());
    for (int64_t row = stripe * kScaleBlock; row < row_end; ++row) {
      for (int64_t col = 0; col < tensor.cols(); ++col) {
        const int64_t index = row * tensor.cols() + col;
        const float value = tensor.At(row, col);
        dtype == DType::kF32 ? Store(out, index, value) : Store(out, index, ToBF16(value));
      }
    }
  });
}

void FillFp8(const RandomTensor& tensor, ComputePool& pool, std::span<std::byte> out) {
  const int64_t block_cols = CeilDiv(tensor.cols(), kScaleBlock);
  pool.ParallelFor(CeilDiv(tensor.rows(), kScaleBlock) * block_cols, [&](int64_t block) {
    const int64_t block_row = block / block_cols;
    const int64_t block_col = block % block_cols;
    const int64_t row_end = std::min((block_row + 1) * kScaleBlock, tensor.rows());
    const int64_t col_end = std::min((block_col + 1) * kScaleBlock, tensor.cols());
    const float scale = tensor.ScaleAt(block_row, block_col);
    for (int64_t row = block_row * kScaleBlock; row < row_end; ++row) {
      for (int64_t col = block_col * kScaleBlock; col < col_end; ++col) {
        Store(out, row * tensor.cols() + col, ToF8E4M3(tensor.At(row, col) / scale));
      }
    }
  });
}

void FillScales(const RandomTensor& tensor, ComputePool& pool, std::span<std::byte> out) {
  const int64_t block_cols = CeilDiv(tensor.cols(), kScaleBlock);
  pool.ParallelFor(CeilDiv(tensor.rows(), kScaleBlock) * block_cols, [&](int64_t block) {
    Store(out, block, tensor.ScaleAt(block / block_cols, block % block_cols));
  });
}

std::vector<TensorToWrite> TensorsToWrite(const std::vector<TensorSpec>& specs, WeightFormat format,
                                          uint64_t seed, ComputePool& pool) {
  std::vector<TensorToWrite> tensors;
  for (const TensorSpec& spec : specs) {
    const RandomTensor values(seed, spec);
    const DType dtype = DTypeFor(spec.kind, format);
    if (dtype != DType::kF8E4M3) {
      tensors.push_back({spec.name, dtype, spec.shape, [values, dtype, &pool](std::span<std::byte> out) {
                           FillPlain(values, dtype, pool, out);
                         }});
      continue;
    }
    tensors.push_back({spec.name, dtype, spec.shape,
                       [values, &pool](std::span<std::byte> out) { FillFp8(values, pool, out); }});
    tensors.push_back({ScaleName(spec.name), DType::kF32, ScaleShape(spec.shape),
                       [values, &pool](std::span<std::byte> out) { FillScales(values, pool, out); }});
  }
  return tensors;
}

// Throws unless the directory is empty or missing and its disk has room.
void CheckPlace(const std::filesystem::path& directory, int64_t bytes) {
  std::error_code error;
  if (std::filesystem::exists(directory, error) &&
      (!std::filesystem::is_directory(directory, error) || !std::filesystem::is_empty(directory, error))) {
    Fail(ErrorKind::kUsage,
         "{} is there already and not an empty directory; name a new one or remove it first.",
         directory.string());
  }
  std::filesystem::path disk = std::filesystem::absolute(directory, error);
  while (!std::filesystem::exists(disk, error) && disk.has_relative_path()) disk = disk.parent_path();
  const std::filesystem::space_info space = std::filesystem::space(disk, error);
  if (!error && static_cast<uint64_t>(bytes) > space.available) {
    Fail(ErrorKind::kUsage,
         "The checkpoint would have {} bytes, but the disk of {} has {} free; choose a smaller preset, fewer "
         "layers or experts, or another disk.",
         bytes, directory.string(), space.available);
  }
  if (!std::filesystem::create_directories(directory, error) && error) {
    Fail(ErrorKind::kUsage, "{} cannot be made: {}.", directory.string(), error.message());
  }
}

}  // namespace

WeightFormat ParseWeightFormat(const std::string& name) {
  if (name == "f32") return WeightFormat::kF32;
  if (name == "bf16") return WeightFormat::kBF16;
  if (name == "fp8") return WeightFormat::kFp8;
  Fail(ErrorKind::kUsage, "There is no weight format \"{}\"; choose f32, bf16 or fp8.", name);
}

CheckpointPlan PlanCheckpoint(const MakeOptions& options) {
  nlohmann::json json = PresetConfig(options.preset);
  json["torch_dtype"] = options.format == WeightFormat::kF32 ? "float32" : "bfloat16";
  if (options.format == WeightFormat::kFp8) {
    json["quantization_config"] = {{"activation_scheme", "dynamic"},
                                   {"fmt", "e4m3"},
                                   {"quant_method", "fp8"},
                                   {"scale_fmt", "ue8m0"},
                                   {"weight_block_size", {kScaleBlock, kScaleBlock}}};
  }
  for (const std::string& text : options.config_overrides) ApplyOverride(text, json);

  CheckpointPlan plan;
  plan.config_text = json.dump(2) + "\n";
  Defects defects;
  const auto config =
      ParseModelConfig(plan.config_text, fmt::format("The config of preset {}", options.preset), defects);
  if (!config) Fail(ErrorKind::kUsage, "{}", defects.sentences().front());
  plan.config = *config;
  plan.specs = TensorsOf(*config, WholeModel(*config));
  for (TensorSpec& spec : NextnTensors(*config)) plan.specs.push_back(std::move(spec));
  ComputePool idle(0);
  for (const TensorToWrite& tensor : TensorsToWrite(plan.specs, options.format, options.seed, idle)) {
    plan.bytes += tensor.bytes();
    ++plan.tensors;
  }
  return plan;
}

void MakeCheckpoint(const std::filesystem::path& directory, const MakeOptions& options,
                    const CheckpointPlan& plan, const LoadProgress& progress) {
  const std::string tokenizer = text::ByteTokenizerJson(static_cast<int32_t>(plan.config.vocab_size));
  CheckPlace(directory, plan.bytes);
  ComputePool pool(options.threads - 1);
  WriteShards(directory, TensorsToWrite(plan.specs, options.format, options.seed, pool), options.shard_bytes,
              progress);
  const nlohmann::json generation = {
      {"_from_model_config", true}, {"bos_token_id", plan.config.bos_token_id},
      {"do_sample", true},          {"eos_token_id", plan.config.eos_token_ids},
      {"temperature", 1.0},         {"top_p", 0.95}};
  WriteTextFile(directory / "generation_config.json", generation.dump(2) + "\n");
  WriteTextFile(directory / "tokenizer.json", tokenizer);
  WriteTextFile(directory / "tokenizer_config.json",
                text::ByteTokenizerConfigJson(plan.config.max_position_embeddings));
  // Last, so that an interrupted run leaves a directory that nothing takes for a checkpoint.
  WriteTextFile(directory / "config.json", plan.config_text);
}

}  // namespace sluice::checkpoint
