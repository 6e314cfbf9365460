#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "tensor/dtype.h"

namespace sluice::checkpoint {

// A tensor to be written; `fill` gets exactly its bytes (row-major, little-endian) when its turn comes, so
// that one tensor at a time is in memory.
struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::function<void(std::span<std::byte>)> fill;

  int64_t bytes() const;
};

// Writes one file as Hugging Face's safetensors library does: metadata {"format": "pt"}, tensors ordered by
// dtype (F32, BF16, F16, F8_E4M3), then by name, the header padded with spaces to a multiple of 8 bytes.
// Throws Error(kModelFiles) naming the file and the system's reason when it cannot be written.
void WriteSafetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                      const LoadProgress& progress);

// Deals `tensors`, in their order, over model-00001-of-N.safetensors, ... of at most `shard_bytes` of data
// each (a larger tensor has a shard of its own) and writes them and model.safetensors.index.json into
// `directory`.
void WriteShards(const std::filesystem::path& directory, std::vector<TensorToWrite> tensors,
                 int64_t shard_bytes, const LoadProgress& progress);

// Writes a text file; errors as above.
void WriteTextFile(const std::filesystem::path& path, const std::string& text);

}  // namespace sluice::checkpoint
