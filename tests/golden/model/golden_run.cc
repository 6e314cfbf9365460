#include "golden_run.h"

#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "comm/communicator.h"
#include "golden_checkpoint.h"
#include "model/shapes.h"
#include "model/weights.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/reference/reference_ops.h"

namespace sluice::golden {
namespace {

// The group of one rank: what it sends itself is a copy.
class Alone final : public comm::Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int GlobalRank(int) const override { return 0; }
  std::unique_ptr<comm::Transfer> Send(int, uint64_t, std::span<const std::byte>) override {
    return Nobody();
  }
  std::unique_ptr<comm::Transfer> Receive(int, uint64_t, std::span<std::byte>) override { return Nobody(); }
  std::unique_ptr<comm::Communicator> Subgroup(std::span<const int>) override {
    return std::make_unique<Alone>();
  }
  void Abort(std::string_view) override {}
  void AllGather(std::string_view, std::span<const std::byte> mine, std::span<std::byte> all,
                 std::span<const int64_t>) override {
    std::copy(mine.begin(), mine.end(), all.begin());
  }
  void AllToAll(std::string_view, std::span<const std::span<const std::byte>> send,
                std::span<const std::span<std::byte>> receive) override {
    std::copy(send[0].begin(), send[0].end(), receive[0].begin());
  }
  void Barrier(std::string_view) override {}

 private:
  static std::unique_ptr<comm::Transfer> Nobody() {
    Fail(ErrorKind::kInternal, "A rank that is alone was asked to talk to another.");
  }
};

// Pages in an order that no correct code depends on: 0, n - 1, 1, n - 2, ...
std::vector<int32_t> ScatteredPages(int64_t count) {
  std::vector<int32_t> pages;
  for (int64_t i = 0; i < count; ++i)
    pages.push_back(static_cast<int32_t>(i % 2 == 0 ? i / 2 : count - 1 - i / 2));
  return pages;
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "sluice_golden_XXXXXX").string();
  SLUICE_CHECK(::mkdtemp(name.data()) != nullptr, "no temporary directory {}", name);
  path_ = name;
}
TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

OneRank::OneRank(const Vectors& vectors, ops::Numerics numerics, BackEnd back_end)
    : pool_(static_cast<int>(std::max(2U, std::thread::hardware_concurrency())) - 1),
      ops_(back_end == BackEnd::kCpu ? ops::MakeCpuOps(numerics, pool_) : ops::MakeReferenceOps(numerics)),
      pages_(ScatteredPages((vectors.rows() + ops::kPageTokens - 1) / ops::kPageTokens)) {
  const TemporaryDirectory directory;
  WriteCheckpoint(vectors, directory.path());
  checkpoint_ = checkpoint::Checkpoint::Open(directory.path());
  model::StageSlice slice;
  slice.layers = {{0, vectors.layers}};
  model_ = std::make_unique<model::StageModel>(checkpoint_->config(), slice,
                                               model::LoadStage(*checkpoint_, *ops_, slice),
                                               model::CacheFormatOf(numerics), std::ssize(pages_));
}
OneRank::~OneRank() = default;

std::vector<float> OneRank::Feed(std::span<const int32_t> tokens, std::span<const int64_t> wanted,
                                 const OnSelection& on_selection) {
  const int64_t first = done_;
  done_ += std::ssize(tokens);
  step::StepSequence sequence;
  sequence.first_position = static_cast<int32_t>(first);
  sequence.tokens.assign(tokens.begin(), tokens.end());
  sequence.pages.assign(pages_.begin(), pages_.begin() + (done_ + ops::kPageTokens - 1) / ops::kPageTokens);
  step::Step step;
  step.id = steps_++;
  step.sequences = {sequence};

  Alone lanes;
  arena_.Reset();
  const model::Pass pass(step, lanes, nullptr, parallel::SplitMode::kInterleave, *ops_, arena_);
  const Tensor x = pass.NewActivation(pass.rows(), model_->hidden_size());
  model_->Embed(pass, x);
  model::SelectionHook hook;
  hook.on_selection = [&](int64_t layer, const model::Pass&, const Tensor& selection) {
    for (int64_t row = 0; row < selection.rows; ++row) {
      on_selection(layer, first + row, {selection.Row<int32_t>(row), static_cast<size_t>(selection.cols)});
    }
  };
  model_->Layers(pass, 0, x, &hook);

  std::vector<int64_t> rows(wanted.begin(), wanted.end());
  for (int64_t& row : rows) row -= first;
  const int64_t vocab = checkpoint_->config().vocab_size;
  std::vector<float> logits(rows.size() * vocab);
  model_->Head(pass, x, rows, [&](int64_t first_wanted, const Tensor& slab) {
    for (int64_t i = 0; i < slab.rows; ++i) {
      std::memcpy(&logits[(first_wanted + i) * vocab], slab.Row<float>(i), vocab * sizeof(float));
    }
  });
  return logits;
}

}  // namespace sluice::golden
