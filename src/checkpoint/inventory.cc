#include "checkpoint/inventory.h"

#include <algorithm>
#include <cctype>
#include <unordered_map>

#include "base/error.h"
#include "checkpoint/coverage.h"
#include "checkpoint/json_file.h"
#include "checkpoint/scales.h"
#include "checkpoint/tensor_map.h"

namespace sluice::checkpoint {
namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";

bool IsWithin(const std::filesystem::path& path, const std::filesystem::path& root) {
  const std::filesystem::path relative = path.lexically_relative(root);
  return !relative.empty() && *relative.begin() != "..";
}

// A shard is a plain file name of this directory. A link may not lead out of it, except into the blobs folder
// of a Hugging Face cache, where snapshots/REVISION/NAME links to ../../blobs/HASH.
bool CheckShardName(const std::filesystem::path& directory, const std::string& name, const std::string& where,
                    Defects& defects) {
  if (name.empty() || name != Shown(name) || name.find_first_of("/\\") != std::string::npos || name == "." ||
      name == ".." || !name.ends_with(".safetensors")) {
    defects.Add(
        "{} names the shard \"{}\"; a plain file name of this directory that ends in .safetensors is "
        "expected.",
        where, Shown(name));
    return false;
  }
  std::error_code error;
  const std::filesystem::path root = std::filesystem::canonical(directory, error);
  const std::filesystem::path target = std::filesystem::canonical(directory / name, error);
  if (error) {
    defects.Add("{} names the shard {}, which is missing from the directory.", where, name);
    return false;
  }
  const bool in_hub_cache = root.parent_path().filename() == "snapshots" &&
                            IsWithin(target, root.parent_path().parent_path() / "blobs");
  if (!IsWithin(target, root) && !in_hub_cache) {
    defects.Add(
        "{} names the shard {}, a link that leads out of the directory to {}; put the file itself there.",
        where, name, target.string());
    return false;
  }
  return true;
}

// The shards of an index: file name -> position in inventory.files, nullopt for one that cannot be used.
using ShardPositions = std::unordered_map<std::string, std::optional<size_t>>;

void AddFile(const std::filesystem::path& path, Inventory& inventory, Defects& defects) {
  inventory.files.push_back(ReadSafetensorsHeader(path, defects));
  const SafetensorsHeader& header = inventory.files.back().header;
  inventory.unusable.insert(header.broken.begin(), header.broken.end());
}

// Both ways: what weight_map places somewhere is there, and what is there is placed there.
void MatchIndexAndHeaders(const nlohmann::json& weight_map, const ShardPositions& positions,
                          Inventory& inventory, Defects& defects) {
  const std::string where = inventory.listing.string();
  for (const auto& [name, shard] : weight_map.items()) {
    const auto position = shard.is_string() ? positions.find(shard.get<std::string>()) : positions.end();
    if (position == positions.end() || !position->second) {
      inventory.unusable.insert(name);
      continue;
    }
    const SafetensorsHeader& header = inventory.files[*position->second].header;
    const auto entry = header.tensors.find(name);
    if (entry != header.tensors.end()) {
      inventory.tensors.emplace(name, TensorLocation{*position->second, entry->second});
      continue;
    }
    if (header.readable && !header.broken.contains(name)) {
      defects.Add("{} places tensor {} in {}, which does not have it.", where, Shown(name), position->first);
    }
    inventory.unusable.insert(name);
  }
  for (size_t i = 0; i < inventory.files.size(); ++i) {
    const SafetensorsFile& file = inventory.files[i];
    for (const auto& [name, entry] : file.header.tensors) {
      const auto found = inventory.tensors.find(name);
      if (found != inventory.tensors.end() && found->second.file == i) continue;
      const auto placed = weight_map.find(name);
      defects.Add("{} has tensor {}, which {} {}.", file.path.string(), name, where,
                  placed == weight_map.end() ? "does not list" : "places in " + ShownJson(*placed));
      inventory.unusable.insert(name);
    }
  }
}

void ReadIndexed(const std::filesystem::path& directory, Inventory& inventory, Defects& defects) {
  const std::string where = inventory.listing.string();
  const std::optional<nlohmann::json> index = ReadJsonObject(inventory.listing, defects);
  if (!index) return;
  const auto weight_map = index->find("weight_map");
  if (weight_map == index->end() || !weight_map->is_object() || weight_map->empty()) {
    defects.Add("{}: \"weight_map\" is {}; an object from tensor names to shard names is expected.", where,
                weight_map == index->end() ? "missing" : ShownJson(*weight_map));
    return;
  }
  ShardPositions positions;
  bool single_listed = false;
  for (const auto& [name, shard] : weight_map->items()) {
    if (!shard.is_string()) {
      defects.Add("{}: tensor {} is in {}; the name of a shard is expected.", where, Shown(name),
                  ShownJson(shard));
      continue;
    }
    const auto shard_name = shard.get<std::string>();
    if (positions.contains(shard_name)) continue;
    single_listed = single_listed || shard_name == kSingleName;
    if (CheckShardName(directory, shard_name, where, defects)) {
      positions[shard_name] = inventory.files.size();
      AddFile(directory / shard_name, inventory, defects);
    } else {
      positions[shard_name] = std::nullopt;
    }
  }
  if (!single_listed && std::filesystem::exists(directory / kSingleName)) {
    defects.Add("{} has both {} and {}, which the index does not list; remove the one that is not meant.",
                directory.string(), kIndexName, kSingleName);
  }
  MatchIndexAndHeaders(*weight_map, positions, inventory, defects);
}

void ReadSingle(const std::filesystem::path& directory, Inventory& inventory, Defects& defects) {
  if (!CheckShardName(directory, kSingleName, directory.string(), defects)) return;
  AddFile(inventory.listing, inventory, defects);
  for (const auto& [name, entry] : inventory.files[0].header.tensors) {
    inventory.tensors.emplace(name, TensorLocation{0, entry});
  }
}

}  // namespace

Inventory TakeInventory(const std::filesystem::path& directory, Defects& defects) {
  Inventory inventory;
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    defects.Add("{} is not a directory; the directory of a Hugging Face checkpoint is expected.",
                directory.string());
    return inventory;
  }
  inventory.config = CheckModelConfig(directory, defects);
  if (std::filesystem::exists(directory / kIndexName, error)) {
    inventory.listing = directory / kIndexName;
    ReadIndexed(directory, inventory, defects);
  } else if (std::filesystem::exists(directory / kSingleName, error)) {
    inventory.listing = directory / kSingleName;
    ReadSingle(directory, inventory, defects);
  } else {
    defects.Add("{} has neither {} nor {}.", directory.string(), kIndexName, kSingleName);
    return inventory;
  }
  // Without a listing that can be read, every tensor would seem to be missing.
  const bool known =
      !inventory.files.empty() && (inventory.files.size() > 1 || inventory.files[0].header.readable);
  if (inventory.config && known) CheckCoverage(*inventory.config, inventory, defects);
  return inventory;
}

void CheckScaleValues(const Inventory& inventory, Defects& defects) {
  std::vector<float> values;
  for (const auto& [name, location] : inventory.tensors) {
    if (!IsScaleName(name) || location.entry.dtype != DType::kF32) continue;
    const SafetensorsFile& shard = inventory.files[location.file];
    try {
      const OpenFile file(shard.path);
      file.ExpectIdentity(shard.identity);
      values.resize(static_cast<size_t>(location.entry.bytes) / sizeof(float));
      file.ReadAt(location.entry.begin, std::as_writable_bytes(std::span(values)));
      if (const auto sentence = DefectOfScales(values, name, shard.path)) defects.Add("{}", *sentence);
    } catch (const Error& error) {
      defects.Add("{}", error.what());
    }
  }
}

std::string Summary(const Inventory& inventory) {
  int64_t bytes = 0;
  for (const auto& [name, location] : inventory.tensors) {
    if (!inventory.nextn_names.contains(name)) bytes += location.entry.bytes;
  }
  std::string dtype = "fp8";
  if (!inventory.fp8) {
    dtype = NameOf(inventory.tensors.at("model.embed_tokens.weight").entry.dtype);
    std::transform(dtype.begin(), dtype.end(), dtype.begin(),
                   [](char c) { return static_cast<char>(std::tolower(c)); });
  }
  std::string text = fmt::format("{} tensors, {} bytes, {}",
                                 inventory.tensors.size() - inventory.nextn_names.size(), bytes, dtype);
  if (!inventory.nextn_names.empty()) {
    text += fmt::format(" ({} tensors of nextn layers, which are loaded on request alone)",
                        inventory.nextn_names.size());
  }
  return text;
}

}  // namespace sluice::checkpoint
