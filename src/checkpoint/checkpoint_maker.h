#pragma once

#include <cstdint>
#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "checkpoint/random_model.h"

namespace sluice::checkpoint {

struct MakeOptions : RandomModel {
  int64_t shard_bytes = 5'000'000'000;  // Hugging Face's default
  int threads = 1;                      // that compute values
};

// Writes the model's text files, the shards and their index into `directory`, which is made if missing.
// Throws Error(kUsage) before writing anything if the directory is not empty or the checkpoint does not fit
// on its disk.
void MakeCheckpoint(const std::filesystem::path& directory, const MakeOptions& options,
                    const CheckpointPlan& plan, const LoadProgress& progress);

}  // namespace sluice::checkpoint
