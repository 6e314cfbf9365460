#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/defects.h"
#include "checkpoint/model_config.h"
#include "checkpoint/safetensors.h"

namespace sluice::checkpoint {

// Where a tensor lies: files[file].
struct TensorLocation {
  size_t file = 0;
  TensorEntry entry;
};

// What the config, the index and the shard headers of a directory say.
struct Inventory {
  std::optional<ModelConfig> config;
  std::vector<SafetensorsFile> files;
  std::map<std::string, TensorLocation> tensors;
  // Names that are there in some way but unusable, for which a defect has been added already.
  std::set<std::string> unusable;
  // The file that lists the tensors: the index, or the one model.safetensors.
  std::filesystem::path listing;
  std::set<std::string> nextn_names;  // of the tensors found, those of nextn layers
  bool fp8 = false;                   // some linear has a weight_scale_inv
};

// Reads config.json, model.safetensors.index.json (or the one model.safetensors) and every shard header, and
// adds every defect of them: also shard names that leave the directory, a weight_map and headers that differ
// either way, and coverage (every tensor the config calls for is there with its shape and a dtype it may
// have, and no other one is).
Inventory TakeInventory(const std::filesystem::path& directory, Defects& defects);

// Adds a defect for each weight_scale_inv with a value that is not finite and positive. Reads all scales.
void CheckScaleValues(const Inventory& inventory, Defects& defects);

// "123 tensors, 20480 bytes, fp8|bf16|f16|f32" for a directory without defects: the dtype is fp8 if some
// linear is, else that of the embedding; nextn tensors, which are loaded on request alone, are counted
// beside.
std::string Summary(const Inventory& inventory);

}  // namespace sluice::checkpoint
