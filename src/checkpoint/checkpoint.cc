#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "base/error.h"
#include "checkpoint/inventory.h"
#include "checkpoint/json_file.h"
#include "checkpoint/preload.h"
#include "checkpoint/random_checkpoint.h"
#include "checkpoint/random_path.h"
#include "checkpoint/scales.h"
#include "checkpoint/tensor_map.h"
#include "tensor/counter_random.h"

namespace sluice::checkpoint {
namespace {

constexpr size_t kSampledTensors = 256;
constexpr int64_t kSampledBytes = 512;

// Bytes from the middle of some tensors, spread evenly over their names: two models of one architecture have
// equal configs and shapes and differ in nearly every weight. A few hundred reads, wherever the shards lie.
std::string SampledBytes(const Inventory& inventory) {
  std::string bytes;
  const size_t stride = inventory.tensors.size() / kSampledTensors + 1;
  std::map<size_t, OpenFile> files;
  size_t index = 0;
  for (const auto& [name, location] : inventory.tensors) {
    if (index++ % stride != 0) continue;
    const SafetensorsFile& shard = inventory.files[location.file];
    const OpenFile& file = files.try_emplace(location.file, shard.path).first->second;
    file.ExpectIdentity(shard.identity);
    const int64_t count = std::min(kSampledBytes, location.entry.bytes);
    std::string sample(static_cast<size_t>(count), '\0');
    file.ReadAt(location.entry.begin + (location.entry.bytes - count) / 2,
                std::as_writable_bytes(std::span(sample)));
    bytes += sample;
  }
  return bytes;
}

// Everything that ranks must agree on, fields and tensors in a fixed order, hashed.
uint64_t FingerprintOf(const Inventory& inventory) {
  std::string text = CanonicalText(*inventory.config);
  for (const auto& [name, location] : inventory.tensors) {
    text += fmt::format("{} {} {} {}\n", name, NameOf(location.entry.dtype), ShownShape(location.entry.shape),
                        location.entry.bytes);
  }
  return SplitMix64(Fnv1a64(text + SampledBytes(inventory)));
}

class MappedCheckpoint final : public Checkpoint {
 public:
  MappedCheckpoint(std::filesystem::path directory, Inventory inventory)
      : directory_(std::move(directory)),
        inventory_(std::move(inventory)),
        mappings_(inventory_.files.size()),
        fingerprint_(FingerprintOf(inventory_)) {
    for (const auto& [name, location] : inventory_.tensors) {
      if (!inventory_.nextn_names.contains(name)) tensor_bytes_ += location.entry.bytes;
    }
  }

  const ModelConfig& config() const override { return *inventory_.config; }
  bool Has(const std::string& name) const override { return inventory_.tensors.contains(name); }
  bool is_fp8() const override { return inventory_.fp8; }
  uint64_t fingerprint() const override { return fingerprint_; }
  int64_t tensor_bytes() const override { return tensor_bytes_; }
  int64_t nextn_tensor_count() const override { return std::ssize(inventory_.nextn_names); }
  int64_t tensor_count() const override { return std::ssize(inventory_.tensors) - nextn_tensor_count(); }

  std::optional<std::string> TextFile(const std::string& name) const override {
    const std::filesystem::path file = directory_ / name;
    if (!std::filesystem::exists(file)) return std::nullopt;
    Defects defects;
    auto text = ReadText(file, defects);
    defects.ThrowFirst();
    return text;
  }

  StoredTensor Get(const std::string& name) const override {
    const TensorLocation& location = Locate(name);
    const MappedFile& mapping = Map(location.file);
    mapping.VerifyIntact();
    StoredTensor tensor{name,
                        location.entry.dtype,
                        location.entry.shape,
                        Aligned(name, mapping.data() + location.entry.begin, location.entry),
                        location.entry.bytes,
                        mapping.file().path()};
    if (IsScaleName(name)) VerifyScales(tensor);
    return tensor;
  }

  void Preload(std::span<const std::string> names, int threads, const LoadProgress& progress) const override {
    std::vector<FileSpan> spans;
    spans.reserve(names.size());
    for (const std::string& name : names) {
      const TensorLocation& location = Locate(name);
      spans.push_back({&Map(location.file).file(), location.entry.begin, location.entry.bytes});
    }
    ReadIntoPageCache(std::move(spans), threads, progress);
    VerifyIntact();
  }

  void ReleasePages(const std::string& name) const override {
    const TensorLocation& location = Locate(name);
    Map(location.file).ReleasePages(location.entry.begin, location.entry.bytes);
  }

  void VerifyIntact() const override {
    const std::lock_guard lock(mutex_);
    for (const auto& mapping : mappings_) {
      if (mapping) mapping->VerifyIntact();
    }
  }

 private:
  const TensorLocation& Locate(const std::string& name) const {
    const auto found = inventory_.tensors.find(name);
    if (found == inventory_.tensors.end()) {
      Fail(ErrorKind::kModelFiles, "{} has no tensor {}.", inventory_.listing.string(), Shown(name));
    }
    return found->second;
  }

  const MappedFile& Map(size_t file) const {
    const std::lock_guard lock(mutex_);
    if (!mappings_[file]) {
      const SafetensorsFile& shard = inventory_.files[file];
      mappings_[file] = std::make_unique<MappedFile>(shard.path, shard.identity);
    }
    return *mappings_[file];
  }

  const std::byte* Aligned(const std::string& name, const std::byte* data, const TensorEntry& entry) const {
    if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(SizeOf(entry.dtype)) == 0) return data;
    const std::lock_guard lock(mutex_);
    std::vector<std::byte>& copy = aligned_copies_[name];
    if (copy.empty()) copy.assign(data, data + entry.bytes);
    return copy.data();
  }

  static void VerifyScales(const StoredTensor& tensor) {
    const auto* values = reinterpret_cast<const float*>(tensor.data);
    const std::span scales(values, static_cast<size_t>(tensor.bytes) / sizeof(float));
    if (const auto sentence = DefectOfScales(scales, tensor.name, tensor.file)) {
      throw Error(ErrorKind::kModelFiles, *sentence);
    }
  }

  const std::filesystem::path directory_;
  const Inventory inventory_;
  mutable std::mutex mutex_;  // guards the two below, which fill on first use
  mutable std::vector<std::unique_ptr<MappedFile>> mappings_;
  mutable std::map<std::string, std::vector<std::byte>> aligned_copies_;
  const uint64_t fingerprint_;
  int64_t tensor_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Checkpoint> Checkpoint::Open(const std::filesystem::path& model_path) {
  if (IsRandomPath(model_path)) return OpenRandom(model_path);
  Defects defects;
  Inventory inventory = TakeInventory(model_path, defects);
  defects.ThrowFirst();
  return std::make_unique<MappedCheckpoint>(model_path, std::move(inventory));
}

}  // namespace sluice::checkpoint
