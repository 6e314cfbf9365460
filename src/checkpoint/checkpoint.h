#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "tensor/dtype.h"
#include "tensor/random_matrix.h"

namespace sluice::checkpoint {

// A tensor as it lies in a mapped shard, row-major, little-endian; `data` is aligned to the element size and
// stays valid as long as the Checkpoint lives. One of a random model lies nowhere: `data` is null and
// `random` says what it is made from; its FP8 scales are made with it and are not had by name.
struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  int64_t bytes = 0;
  std::filesystem::path file;
  std::optional<RandomMatrix> random = std::nullopt;  // a vector is one row
};

// Bytes read so far and in all, for a progress bar; called from loader threads, at most every 50 ms.
using LoadProgress = std::function<void(int64_t bytes_done, int64_t bytes_total)>;

// A Hugging Face directory: config.json, model.safetensors.index.json (or one model.safetensors), shards.
// Opening reads and checks headers only; shards are mapped on first use, so that a rank maps what it needs.
// Or a random model, which has no directory (random_path.h).
class Checkpoint {
 public:
  // Throws Error(kModelFiles) on the first defect of the config, the index, a shard header, or of coverage:
  // every tensor the config calls for is present with its shape and a dtype it may have, and no other one is.
  // Tensors of the nextn (MTP) layers may be missing (nextn.h).
  // A path that begins with random: is read by ParseRandomPath, with the same kind of error.
  static std::unique_ptr<Checkpoint> Open(const std::filesystem::path& model_path);
  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;
  // Maps the tensor's shard if need be. Throws Error(kModelFiles) when there is no tensor of that name, when
  // its shard was cut or rewritten since Open, and for a weight_scale_inv with a value that is not finite and
  // positive. The format aligns nothing: a tensor that lies at an odd offset is copied once. Thread-safe, as
  // all of this class.
  virtual StoredTensor Get(const std::string& name) const = 0;
  virtual bool Has(const std::string& name) const = 0;
  // True iff any linear has a weight_scale_inv: the numerics mode is fp8 unless overridden.
  virtual bool is_fp8() const = 0;
  // Reads the named tensors into the page cache with 1 to 64 threads, so that packing does not wait for the
  // disk one page at a time. Throws Error(kModelFiles) naming a file that was cut or cannot be read.
  virtual void Preload(std::span<const std::string> names, int threads,
                       const LoadProgress& progress) const = 0;
  // Says that the tensor's data has been read: until somebody reads it again, which is allowed, it takes no
  // memory of this process. Nothing for a tensor that lies nowhere.
  virtual void ReleasePages(const std::string& name) const = 0;
  // Throws Error(kModelFiles) naming a mapped shard that was cut or rewritten since Open. Reading
  // StoredTensor::data never ends the process: bytes that are gone read as zeros. So a loader reads, then
  // calls this once, and only then relies on what it read.
  virtual void VerifyIntact() const = 0;
  // The text of a file beside the tensors, such as tokenizer.json; nullopt when there is none of that name.
  // Throws Error(kModelFiles) when it cannot be read.
  virtual std::optional<std::string> TextFile(const std::string& name) const = 0;
  // Tensors of the directory without those of nextn layers, scales included, and their bytes.
  virtual int64_t tensor_count() const = 0;
  virtual int64_t tensor_bytes() const = 0;
  // Tensors of nextn layers, scales included, which are loaded on request alone.
  virtual int64_t nextn_tensor_count() const = 0;
  // A fingerprint of config, tensor index (names, dtypes, shapes, sizes) and samples of the weights, for
  // ranks to compare: it tells models apart, also those of one architecture. It does not find a damaged byte.
  // Of a random model: of its config, dtype, seed and gain; not equal to that of a directory made from them.
  virtual uint64_t fingerprint() const = 0;
};

}  // namespace sluice::checkpoint
