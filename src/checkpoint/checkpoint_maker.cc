#include "checkpoint/checkpoint_maker.h"

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/compute_pool.h"
#include "base/error.h"
#include "checkpoint/random_weights.h"
#include "checkpoint/recall_weights.h"
#include "checkpoint/safetensors_writer.h"

namespace sluice::checkpoint {
namespace {

// `fill` writes data, or scales, whichever is not null.
void AddTensor(const TensorSpec& spec, DType dtype, std::function<void(std::byte* data, float* scales)> fill,
               std::vector<TensorToWrite>& tensors) {
  tensors.push_back(
      {spec.name, dtype, spec.shape, [fill](std::span<std::byte> out) { fill(out.data(), nullptr); }});
  if (dtype != DType::kF8E4M3) return;
  tensors.push_back({ScaleName(spec.name), DType::kF32, ScaleShape(spec.shape),
                     [fill = std::move(fill)](std::span<std::byte> out) {
                       fill(nullptr, reinterpret_cast<float*>(out.data()));
                     }});
}

std::vector<TensorToWrite> TensorsToWrite(const CheckpointPlan& plan, const RandomModel& model,
                                          ComputePool& pool) {
  std::vector<TensorToWrite> tensors;
  for (const TensorSpec& spec : plan.specs) {
    const RandomMatrix random = MatrixOf(spec, model);
    if (plan.recall) {
      if (auto entries = RecallEntries(plan.config, spec)) {
        AddTensor(
            spec, random.dtype,
            [random, entries = std::move(*entries)](std::byte* data, float* scales) {
              FillEntries(entries, random.rows, random.cols, random.dtype, data, scales);
            },
            tensors);
        continue;
      }
    }
    AddTensor(
        spec, random.dtype,
        [random, &pool](std::byte* data, float* scales) { FillRandom(random, pool, data, scales); }, tensors);
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

void MakeCheckpoint(const std::filesystem::path& directory, const MakeOptions& options,
                    const CheckpointPlan& plan, const LoadProgress& progress) {
  std::vector<std::string> texts;
  for (const char* name : kTextFiles) texts.push_back(TextFileOf(plan, name).value());
  CheckPlace(directory, plan.bytes);
  ComputePool pool(options.threads - 1);
  WriteShards(directory, TensorsToWrite(plan, options, pool), options.shard_bytes, progress);
  // config.json last, so that an interrupted run leaves a directory that nothing takes for a checkpoint.
  for (size_t i = 0; i < texts.size(); ++i) WriteTextFile(directory / kTextFiles[i], texts[i]);
}

}  // namespace sluice::checkpoint
