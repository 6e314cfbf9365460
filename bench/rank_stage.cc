#include "rank_stage.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <vector>

#include "base/checked.h"
#include "base/clock.h"
#include "comm/replay_world.h"
#include "model/activation_bytes.h"
#include "ops/cuda/device.h"
#include "tensor/counter_random.h"

namespace sluice::bench {
namespace {

// For each row the positions up to its own, as many as a selection has: what an earlier stage might hand
// over.
Tensor LastPositions(const model::Pass& pass, int64_t top_k) {
  const Tensor selection = pass.New(DType::kI32, pass.rows(), top_k);
  std::vector<int32_t> positions(static_cast<size_t>(selection.rows * top_k), -1);
  for (int64_t row = 0; row < selection.rows; ++row) {
    const int64_t last = pass.mine()[row].position;
    const int64_t first = std::max<int64_t>(0, last + 1 - top_k);
    const auto begin = positions.begin() + row * top_k;
    std::iota(begin, begin + (last + 1 - first), static_cast<int32_t>(first));
  }
  pass.ops().memory().Copy(positions.data(), selection.data, selection.bytes());
  return selection;
}

}  // namespace

RankStage::RankStage(const StageOptions& options)
    : options_(options),
      checkpoint_(checkpoint::Checkpoint::Open(options.model)),
      ops_(std::make_unique<TimedOps>(ops::cuda::MakeCudaOps(0))),
      stream_(dynamic_cast<ops::cuda::Stream&>(*ops_->stream())),
      recorder_(0),
      world_(comm::MakeReplayWorld(options.lane, options.lanes, ops_->memory())),
      arena_(ops_->memory()) {
  const auto& config = checkpoint_->config();
  const ops::CacheFormat format = options.cache == "bf16" ? ops::CacheFormat::kBf16 : ops::CacheFormat::kFp8;
  model::StageSlice slice;
  slice.layers = {parallel::DefaultLayerCut(config.num_hidden_layers, options.stages)[options.stage]};
  slice.lane = options.lane;
  slice.lanes = slice.expert_owners = options.lanes;
  slice.first = slice.last = false;  // layers alone
  layers_ = slice.layers.front();
  const int64_t pages = CeilDiv(options.prompt, ops::kPageTokens);
  model::PassLimits limits =
      model::LargestPass({options.chunk, 1, options.prompt}, options.lanes, parallel::SplitMode::kInterleave);
  model_ = std::make_unique<model::StageModel>(config, slice, model::LoadStage(*checkpoint_, *ops_, slice),
                                               format, pages, ops_->memory());
  limits.fp8_experts = model_->fp8_experts();
  model_->Reserve(*ops_, model::OpLimitsOf(config, slice, limits));
  arena_.Reserve(model::ActivationBytes(config, ops_->numerics(), format, slice, limits) +
                 limits.rows *
                     (config.hidden_size * SizeOf(DType::kBF16) + config.index_topk * SizeOf(DType::kI32)));
  world_->SetRecorder(&recorder_);
  world_->SetFence([this](const StreamMark* mark) {
    ops_->FinishUpTo(mark);
    ops_->NoteExchange();
  });
  pages_.resize(static_cast<size_t>(pages));
  std::iota(pages_.begin(), pages_.end(), 0);
}

RankStage::Pass RankStage::Compute(int64_t first, int64_t rows, Timing timing) {
  arena_.Reset();
  step::Step step;
  step::StepSequence& sequence = step.sequences.emplace_back();
  sequence.first_position = static_cast<int32_t>(first);
  sequence.tokens.assign(static_cast<size_t>(rows), 0);
  sequence.pages.assign(pages_.begin(), pages_.begin() + CeilDiv(first + rows, ops::kPageTokens));
  const model::Pass pass(step, *world_, nullptr, parallel::SplitMode::kInterleave, *ops_, arena_);
  const Tensor x = pass.NewActivation(pass.rows(), model_->hidden_size());
  Fill(x, first);
  std::optional<Tensor> selection;
  if (model_->TakesSelection(0)) selection = LastPositions(pass, model_->config().index_topk);
  const int64_t received = world_->bytes_received();
  const int64_t since_ns = NowNs();
  const auto begin = Clock::now();
  ops_->Begin(timing);
  begin_.Record(stream_);
  model_->Layers(pass, 0, x, nullptr, selection ? &*selection : nullptr);
  end_.Record(stream_);
  const std::chrono::duration<double, std::milli> host = Clock::now() - begin;
  Pass done;
  done.calls = ops_->End();
  done.device_ms = end_.MsSince(begin_);
  done.host_ms = host.count();
  done.exchange_ms = ExchangeMs(since_ns);
  done.bytes_received = world_->bytes_received() - received;
  return done;
}

// Rows as an earlier stage might send them: of unit size, each its own.
void RankStage::Fill(const Tensor& x, int64_t seed) {
  std::vector<uint16_t> values(static_cast<size_t>(x.rows * x.cols));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t hash = SplitMix64(static_cast<uint64_t>(seed) * 0x9e3779b97f4a7c15 + i);
    // +-[0.5, 1) and +-[1, 2) in bf16.
    values[i] = static_cast<uint16_t>((hash & 0x8000) | (0x3f00 + (hash >> 16 & 0xff)));
  }
  ops_->memory().Copy(values.data(), x.data, x.bytes());
}

double RankStage::ExchangeMs(int64_t since_ns) const {
  double ms = 0.0;
  for (const trace::Span& span : recorder_.Spans()) {
    if (span.kind != trace::SpanKind::kCollective || span.begin_ns < since_ns) continue;
    ms += static_cast<double>(span.end_ns - span.begin_ns) / 1e6;
  }
  return ms;
}

}  // namespace sluice::bench
