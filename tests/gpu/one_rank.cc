#include "one_rank.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>

#include "base/checked.h"
#include "comm/thread_world.h"
#include "model/shapes.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cuda/device.h"

namespace sluice::gpu {

OneRank::OneRank(const std::string& model, const std::string& ops, ops::CacheFormat format, int64_t tokens,
                 const Wrap& wrap)
    : pool_(std::max(1, static_cast<int>(std::thread::hardware_concurrency()) - 1)),
      checkpoint_(checkpoint::Checkpoint::Open(model)),
      ops_(ops == "cuda" ? ops::cuda::MakeCudaOps(0) : ops::MakeCpuOps(ops::Numerics::kFp8, pool_)) {
  if (wrap) ops_ = wrap(std::move(ops_));
  const auto& config = checkpoint_->config();
  model::StageSlice slice;
  slice.layers = {{0, config.num_hidden_layers}};
  const int64_t pages = CeilDiv(tokens, ops::kPageTokens);
  model_ = std::make_unique<model::StageModel>(config, slice, model::LoadStage(*checkpoint_, *ops_, slice),
                                               format, pages, ops_->memory());
  world_ = std::move(comm::MakeThreadWorld(1, std::chrono::seconds(60), ops_->memory()).front());
  world_->SetFence([this](const StreamMark* mark) { ops_->FinishUpTo(mark); });
  arena_ = std::make_unique<Arena>(ops_->memory());
  pages_.resize(static_cast<size_t>(pages));
  std::iota(pages_.begin(), pages_.end(), 0);
  std::shuffle(pages_.begin(), pages_.end(), std::mt19937(5));
}

OneRank::~OneRank() = default;

OneRank::Fed OneRank::Feed(std::span<const int32_t> tokens, int64_t first) {
  arena_->Reset();
  step::Step step;
  step.id = steps_++;
  step::StepSequence& sequence = step.sequences.emplace_back();
  sequence.first_position = static_cast<int32_t>(fed_);
  sequence.tokens.assign(tokens.begin(), tokens.end());
  fed_ += std::ssize(tokens);
  sequence.pages.assign(pages_.begin(), pages_.begin() + CeilDiv(fed_, ops::kPageTokens));
  const model::Pass pass(step, *world_, nullptr, parallel::SplitMode::kInterleave, *ops_, *arena_);
  const Tensor x = pass.NewActivation(pass.rows(), model_->hidden_size());
  model_->Embed(pass, x);
  Fed fed;
  const model::SelectionHook hook{[&](int64_t, const model::Pass&, const Tensor& selection) {
    ops_->Finish();
    const HostCopy copy(selection, ops_->memory());
    const auto* positions = copy.view().Row<const int32_t>(0);
    fed.selections.emplace_back(positions + first * selection.cols,
                                positions + selection.rows * selection.cols);
  }};
  model_->Layers(pass, 0, x, &hook);
  std::vector<int64_t> wanted(static_cast<size_t>(std::ssize(tokens) - first));
  std::iota(wanted.begin(), wanted.end(), first);
  model_->Head(pass, x, wanted, [&](int64_t, const Tensor& slab) {
    ops_->Finish();
    const HostCopy copy(slab, ops_->memory());
    const auto* values = copy.view().Row<const float>(0);
    fed.logits.insert(fed.logits.end(), values, values + slab.rows * slab.cols);
  });
  ops_->Finish();
  return fed;
}

void OneRank::TakeCacheOf(OneRank& other) {
  SLUICE_CHECK(pages_ == other.pages_, "the two caches differ in size");
  const cache::CacheShape& shape = model_->cache().shape();
  const int64_t rows = model_->cache().pages() * ops::kPageTokens;
  for (int64_t layer = 0; layer < checkpoint_->config().num_hidden_layers; ++layer) {
    other.ops_->memory().Copy(other.model_->cache().Latents(layer).base, model_->cache().Latents(layer).base,
                              rows * shape.latent_row_bytes());
    if (!model_->cache().HasIndexKeys(layer)) continue;
    other.ops_->memory().Copy(other.model_->cache().IndexKeys(layer).base,
                              model_->cache().IndexKeys(layer).base, rows * shape.index_row_bytes());
  }
  fed_ = other.fed_;
}

}  // namespace sluice::gpu
