#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint_maker.h"
#include "checkpoint/inventory.h"
#include "checkpoint/safetensors_writer.h"

namespace sluice::checkpoint {

// A directory that is gone after the test.
class TempDirectory {
 public:
  TempDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice_checkpoint_XXXXXX").string();
    SLUICE_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline void WriteBytes(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
}

inline std::string ReadBytes(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// A safetensors file as its two parts.
inline std::string Safetensors(const std::string& header, const std::string& data) {
  std::string length(8, '\0');
  const uint64_t bytes = header.size();
  std::memcpy(length.data(), &bytes, sizeof(bytes));
  return length + header + data;
}

// What is wrong with the checkpoint in a directory, its scales among it.
inline std::vector<std::string> DefectsOf(const std::filesystem::path& directory) {
  Defects defects;
  CheckScaleValues(TakeInventory(directory, defects), defects);
  return defects.sentences();
}

// The sentence of the Error that `body` throws.
template <typename Body>
std::string SentenceOf(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// A plan small enough to write again and again: 3 layers, the first dense.
inline CheckpointPlan SmallPlan(WeightFormat format, std::vector<std::string> overrides = {}) {
  MakeOptions options;
  options.format = format;
  options.config_overrides = {
      "num_hidden_layers=3", "hidden_size=48",        "vocab_size=64",         "q_lora_rank=16",
      "kv_lora_rank=160",    "intermediate_size=32",  "n_routed_experts=4",    "n_group=2",
      "topk_group=1",        "num_experts_per_tok=2", "num_attention_heads=2", "moe_intermediate_size=16",
      "index_n_heads=2"};
  options.config_overrides.insert(options.config_overrides.end(), overrides.begin(), overrides.end());
  return PlanCheckpoint(options);
}

// The tensors of a plan without a generator: weight bytes count from 0x30 to 0x3f, scales are 1.
inline std::vector<TensorToWrite> ConstantTensors(const CheckpointPlan& plan, WeightFormat format) {
  std::vector<TensorToWrite> tensors;
  for (const TensorSpec& spec : plan.specs) {
    const bool fp8 = format == WeightFormat::kFp8 && spec.kind == TensorKind::kLinear;
    const DType dtype = fp8 ? DType::kF8E4M3 : DType::kF32;
    tensors.push_back({spec.name, dtype, spec.shape,
                       [](std::span<std::byte> out) { std::fill(out.begin(), out.end(), std::byte{0}); }});
    if (!fp8) continue;
    tensors.push_back(
        {ScaleName(spec.name), DType::kF32, ScaleShape(spec.shape), [](std::span<std::byte> out) {
           const float one = 1.0F;
           for (size_t i = 0; i < out.size(); i += sizeof(one)) std::memcpy(&out[i], &one, sizeof(one));
         }});
  }
  return tensors;
}

inline void WriteDirectory(const std::filesystem::path& directory, const CheckpointPlan& plan,
                           std::vector<TensorToWrite> tensors, int64_t shard_bytes = 100'000) {
  WriteShards(directory, std::move(tensors), shard_bytes, nullptr);
  WriteTextFile(directory / "config.json", plan.config_text);
}

}  // namespace sluice::checkpoint
