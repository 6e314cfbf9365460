#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "golden_vectors.h"
#include "tensor/dtype.h"

// Checkpoints from counters: the C++ half of generator.py, bit for bit. Kept apart from the checkpoint maker
// of the product, so that a change there cannot move the weights that the vectors belong to.
namespace sluice::golden {

// One line of the tensor table.
struct TensorRule {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  float center = 0.0F;
  float spread = 0.0F;
  int64_t outlier_step = 0;  // rows r with r % step == at are multiplied by gain; 0: none
  int64_t outlier_at = 0;
  float outlier_gain = 1.0F;
};

std::vector<TensorRule> ParseTable(const std::string& text);

// The fp32 values, row-major, before any narrower rounding.
std::vector<float> ValuesOf(const TensorRule& rule, uint64_t seed);

// config.json alone.
void WriteConfig(const Vectors& vectors, const std::filesystem::path& directory);

// config.json, one shard and its index, into an existing directory.
void WriteCheckpoint(const Vectors& vectors, const std::filesystem::path& directory);

}  // namespace sluice::golden
