#include "pipeline/rank.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

#include "model/activation_bytes.h"
#include "pipeline/slab_reader.h"
#include "pipeline/start_up.h"

namespace sluice::pipeline {
namespace {

// What enters each virtual stage: rows, and the selection that its first layers share with those before.
std::vector<HopLayout> LayoutsOf(const RankOptions& options, const checkpoint::ModelConfig& config,
                                 ops::Numerics numerics) {
  std::vector<HopLayout> layouts;
  for (const parallel::LayerRange& range : options.layer_cut) {
    HopLayout& layout = layouts.emplace_back();
    layout.fields = {{kHidden, config.hidden_size * SizeOf(ops::ActivationType(numerics))}};
    if (!config.HasIndexer(range.begin)) {
      layout.fields.push_back({kSelection, config.index_topk * SizeOf(DType::kI32)});
    }
  }
  return layouts;
}

// Passes under way on one rank.
int PassesInFlight(const RankOptions& options) {
  return options.max_steps_in_flight * options.grid.virtual_stages;
}

model::PassLimits LimitsOf(const RankOptions& options) {
  return model::LargestPass(options.largest_step, options.grid.lanes, options.split_mode);
}

std::vector<int64_t> GraphsOf(const RankOptions& options) {
  return DecodeGraphs::Recordable(options.graph_rows, options.largest_step, options.grid.lanes);
}

}  // namespace

model::StageSlice SliceOf(const RankOptions& options) {
  const parallel::Grid& grid = options.grid;
  const int stage = grid.StageOf(options.rank);
  model::StageSlice slice;
  for (int visit = 0; visit < grid.virtual_stages; ++visit) {
    slice.layers.push_back(options.layer_cut.at(static_cast<size_t>(visit * grid.stages + stage)));
  }
  slice.lane = grid.LaneOf(options.rank);
  slice.lanes = grid.lanes;
  slice.attn_tp = grid.attn_tp;
  slice.expert_owners = options.expert_owners;
  slice.dense_tp = options.dense_tp;
  slice.first = stage == 0;
  slice.last = stage == grid.stages - 1;
  slice.nextn = options.load_nextn && slice.last;
  return slice;
}

PassMemory PassMemoryOf(const RankOptions& options, const checkpoint::ModelConfig& config,
                        ops::Numerics numerics, ops::CacheFormat cache_format, bool fp8_experts) {
  const model::StageSlice slice = SliceOf(options);
  model::PassLimits limits = LimitsOf(options);
  limits.fp8_experts = fp8_experts;
  const std::vector<int64_t> graphs = GraphsOf(options);
  ops::OpLimits ops = model::OpLimitsOf(config, slice, limits);
  ops.graph_rows = graphs.empty() ? 0 : graphs.back();
  for (const parallel::LayerRange& range : slice.layers)
    ops.recorded_layers += range.size() * std::ssize(graphs);
  const std::vector<HopLayout> layouts = LayoutsOf(options, config, numerics);
  const auto most_bytes = [&](int64_t rows) {
    return Hop::MostBytes(layouts, options.grid, options.grid.StageOf(options.rank), rows);
  };
  return {model::ActivationBytes(config, numerics, cache_format, slice, limits),
          Hop::MostBuffers(options.grid, PassesInFlight(options)) * most_bytes(limits.rows) +
              most_bytes(DecodeGraphs::MostRows(graphs, options.grid, options.split_mode)),
          ops};
}

Rank::Rank(RankOptions options, std::unique_ptr<model::StageModel> stage, ops::Ops& ops,
           comm::Communicator& world, Groups groups, comm::Channel& control, trace::Recorder& recorder)
    : options_(std::move(options)),
      stage_(std::move(stage)),
      ops_(ops),
      world_(world),
      control_(control),
      recorder_(recorder),
      lanes_(std::move(groups.lanes)),
      heads_(std::move(groups.heads)),
      hop_(world, options_.grid, options_.rank, LayoutsOf(options_, stage_->config(), ops.numerics()),
           PassesInFlight(options_)),
      tokens_(world, options_.grid, options_.rank, options_.max_steps_in_flight),
      arena_(ops.memory()),
      graphs_(*stage_, ops, arena_, options_.grid, options_.split_mode) {
  for (comm::Communicator* each : {&world_, lanes_.get(), heads_.get()}) {
    if (each != nullptr) each->SetFence([&ops](const StreamMark* mark) { ops.FinishUpTo(mark); });
  }
  ops.SetSmBudget(options_.sm_reserve.has_value() ? SmBudget{*options_.sm_reserve} : hop_.budget());
  world_.SetRecorder(&recorder_);
  lanes_->SetRecorder(&recorder_);
  if (heads_ != nullptr) heads_->SetRecorder(&recorder_);
  // The host commits pages on first touch, and what is never touched costs nothing.
  if (!ops_.memory().OnHost() && options_.largest_step.rows > 0) ReserveMemory();
}

void Rank::ReserveMemory() {
  const PassMemory memory = PassMemoryOf(options_, stage_->config(), ops_.numerics(),
                                         stage_->cache().shape().format, stage_->fp8_experts());
  stage_->Reserve(ops_, memory.ops);
  arena_.Reserve(memory.activations);
  hop_.Reserve(LimitsOf(options_).rows);
  if (ops_.HasGraphs()) RecordGraphs();
  if (ops_.stream() != nullptr) hop_.UseStream(*ops_.stream());
}

void Rank::RecordGraphs() {
  const std::vector<int64_t> sizes = GraphsOf(options_);
  if (sizes.empty()) return;
  const Deadline begin = Clock::now();
  std::vector<bool> hands_selection;  // by visit: it comes with the rows or goes on with them
  for (int visit = 0; visit < options_.grid.virtual_stages; ++visit) {
    hands_selection.push_back(hop_.FieldAt({0, visit}, kSelection, 1).has_value());
  }
  graphs_.Record(sizes, options_.rank, hands_selection);
  spdlog::info("rank {}: CUDA graphs of decode steps of {} rows recorded in {:.2f} s", options_.rank,
               fmt::join(sizes, " "), std::chrono::duration<double>(Clock::now() - begin).count());
}

// The world outlives the ops that its fence waits for. Memory is freed when no stream of this rank waits.
Rank::~Rank() {
  hop_.Abandon();
  world_.SetFence(nullptr);
}

bool Rank::HasWork() {
  std::lock_guard lock(mutex_);
  return stopping_ || !work_.empty();
}

std::optional<Rank::Work> Rank::NextWork() {
  // With nothing to do it is for the rows that this rank waits, and not for work.
  if (!HasWork()) hop_.Settle();
  const trace::ScopedSpan span(&recorder_, trace::SpanKind::kIdle);
  const trace::ScopedWait wait(&recorder_, "next step", -1, trace::WaitKind::kWork);
  std::unique_lock lock(mutex_);
  work_arrived_.wait(lock, [this] { return stopping_ || !work_.empty(); });
  if (stopping_) return std::nullopt;
  Work work = std::move(work_.front());
  work_.pop_front();
  return work;
}

// Posts the receives of the passes that are published already, so that their rows can travel while this rank
// computes earlier ones.
void Rank::ExpectPublished() {
  if (!hop_.PostsAhead()) return;
  std::vector<PassWork> expected;
  {
    std::lock_guard lock(mutex_);
    for (const Work& work : work_) {
      if (work.dump != nullptr) continue;
      const PassId id = work.pass.id();
      if (hop_.HasUpstream(id) && !hop_.Expects(id)) expected.push_back(work.pass);
    }
  }
  for (const PassWork& pass : expected) {
    const parallel::RowSplit split(pass.step->RowsOfSequences(), options_.grid.lanes, options_.split_mode);
    hop_.Expect(pass.id(), split.CountOf(stage_->slice().lane));
  }
}

void Rank::ComputePass(const PassWork& work) {
  const PassId id = work.id();
  const trace::ScopedPass counted(recorder_, {id.step, id.visit, -1},
                                  work.step->begins_busy_period && id.visit == 0);
  const bool embeds = !hop_.HasUpstream(id);
  const bool reads_out = !hop_.HasDownstream(id);
  arena_.Reset();
  step::Step step = *work.step;
  if (embeds) {
    tokens_.Expect(step);
    step = tokens_.Resolve(std::move(step));
  }
  const model::Pass pass(step, *lanes_, heads_.get(), options_.split_mode, ops_, arena_);
  if (!embeds && !hop_.Expects(id)) hop_.Expect(id, pass.rows());
  ExpectPublished();
  rows_ = embeds ? hop_.NewBuffer(pass.rows()) : hop_.Take(id);
  const Tensor x{rows_.data(), ops::ActivationType(ops_.numerics()), pass.rows(), stage_->hidden_size(),
                 stage_->hidden_size()};
  std::optional<Tensor> selection;
  if (const auto at = hop_.FieldAt(id, kSelection, pass.rows()); at.has_value()) {
    const int64_t top_k = stage_->config().index_topk;
    selection = Tensor{rows_.data() + *at, DType::kI32, pass.rows(), top_k, top_k};
  }
  const Tensor* handed = selection.has_value() ? &*selection : nullptr;
  step::StepResult result;
  {
    const trace::ScopedSpan span(&recorder_, trace::SpanKind::kCompute);
    if (embeds) stage_->Embed(pass, x);
    if (graphs_.Has(step)) {
      graphs_.Layers(pass, id.visit, x, handed);
    } else {
      stage_->Layers(pass, id.visit, x, nullptr, handed);
    }
    // Before anything leaves: who sees the result finds the counts complete.
    if (id.visit + 1 == options_.grid.virtual_stages) rows_computed_ += pass.rows();
    if (reads_out) {
      SlabReader reader(step, ops_);
      stage_->Head(pass, x, reader.wanted(), [&](int64_t first, const Tensor& logits) {
        const trace::ScopedSpan of_slab(&recorder_, trace::SpanKind::kSample);
        reader.Read(first, logits);
      });
      result = reader.Take();
    }
  }
  if (!reads_out) {
    hop_.Send(id, pass.rows(), std::move(rows_));
    return;
  }
  hop_.Recycle(std::move(rows_));
  if (stage_->slice().lane == 0) {
    tokens_.Send(step, result);
    control_.Send(FrameOf(MessageType::kResult, Encode(result), step.id));
  }
}

std::string Rank::Run() {
  recorder_.StartTimes();
  std::thread reader([this] { ReadControl(); });
  std::string failure;
  try {
    control_.Send(FrameOf(MessageType::kReady, {}));
    while (auto work = NextWork()) {
      if (work->dump != nullptr) {
        ops_.Finish();  // of a pass that was sent on, the cache may still be on its way
        control_.Send(
            FrameOf(MessageType::kDump, stage_->cache().Dump(work->dump->pages, work->dump->tokens)));
        continue;
      }
      if (options_.at_pass) {
        recorder_.SetPlace({work->pass.step->id, work->pass.visit, -1});
        options_.at_pass(work->pass.step->id);
      }
      ComputePass(work->pass);
    }
    std::lock_guard lock(mutex_);
    failure = lost_controller_;
  } catch (const std::exception& error) {
    std::unique_lock lock(mutex_);
    failure = stopping_ ? lost_controller_ : error.what();
    if (!stopping_) {
      lock.unlock();
      if (options_.events_on_failure) SendEvents();
      ReportFailure(control_, FailureOf(error));
    }
  }
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  reader.join();
  return failure;
}

}  // namespace sluice::pipeline
