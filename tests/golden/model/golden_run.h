#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/compute_pool.h"
#include "checkpoint/checkpoint.h"
#include "golden_vectors.h"
#include "model/stage_model.h"
#include "ops/ops.h"

namespace sluice::golden {

enum class BackEnd { kCpu, kReference };

// A directory that goes away with its contents.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// The whole model on one rank: one sequence, fed piece by piece, logits of any rows, selections seen and
// replaced.
class OneRank {
 public:
  // Writes the checkpoint of `vectors` and loads it.
  OneRank(const Vectors& vectors, ops::Numerics numerics, BackEnd back_end);
  ~OneRank();

  const checkpoint::ModelConfig& config() const { return checkpoint_->config(); }

  // `positions` [top_k] is the row's selection in a layer with an indexer; what the callback leaves there is
  // what attention uses, there and in the layers that share it.
  using OnSelection = std::function<void(int64_t layer, int64_t row, std::span<int32_t> positions)>;

  // Computes the next tokens of the sequence. Returns logits [rows wanted, vocab]; `wanted` counts from the
  // sequence's start, ascending, within the new rows.
  std::vector<float> Feed(std::span<const int32_t> tokens, std::span<const int64_t> wanted,
                          const OnSelection& on_selection);

 private:
  ComputePool pool_;
  std::unique_ptr<ops::Ops> ops_;
  std::unique_ptr<checkpoint::Checkpoint> checkpoint_;
  std::unique_ptr<model::StageModel> model_;
  Arena arena_;
  std::vector<int32_t> pages_;
  int64_t done_ = 0;  // rows fed so far
  int64_t steps_ = 0;
};

}  // namespace sluice::golden
