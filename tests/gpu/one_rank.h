#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/compute_pool.h"
#include "checkpoint/checkpoint.h"
#include "comm/communicator.h"
#include "model/stage_model.h"
#include "ops/ops.h"

namespace sluice::gpu {

// A whole model without a file on one rank, below the engine: one sequence, fed piece by piece.
class OneRank {
 public:
  using Wrap = std::function<std::unique_ptr<ops::Ops>(std::unique_ptr<ops::Ops>)>;
  // ops: "cpu" or "cuda"; `tokens`: how many the cache holds; wrap: puts something around the back end, or
  // null.
  OneRank(const std::string& model, const std::string& ops, ops::CacheFormat format, int64_t tokens,
          const Wrap& wrap = nullptr);
  ~OneRank();

  struct Fed {
    std::vector<float> logits;                     // [*, vocabulary]
    std::vector<std::vector<int32_t>> selections;  // of each layer with an indexer, [*, index_topk]
  };
  // Computes the next tokens of the sequence; what was found of those from `first` on.
  Fed Feed(std::span<const int32_t> tokens, int64_t first);
  // As if `other` had fed this one what it was fed: the cache is copied, pages and all.
  void TakeCacheOf(OneRank& other);
  int64_t vocabulary() const { return checkpoint_->config().vocab_size; }

 private:
  ComputePool pool_;
  std::unique_ptr<checkpoint::Checkpoint> checkpoint_;
  std::unique_ptr<ops::Ops> ops_;
  std::unique_ptr<model::StageModel> model_;
  std::unique_ptr<comm::Communicator> world_;
  std::unique_ptr<Arena> arena_;
  std::vector<int32_t> pages_;
  int64_t fed_ = 0;
  int64_t steps_ = 0;
};

}  // namespace sluice::gpu
