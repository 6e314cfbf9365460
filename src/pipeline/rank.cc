#include "pipeline/rank.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

namespace sluice::pipeline {
namespace {

constexpr Duration kHeartbeatEvery = std::chrono::milliseconds(200);

HopLayout LayoutOf(const model::StageModel& stage, ops::Numerics numerics) {
  return {{{"hidden", stage.hidden_size() * SizeOf(ops::ActivationType(numerics))}}};
}

comm::Frame FrameOf(MessageType type, std::vector<std::byte> payload, int64_t step = 0) {
  comm::Frame frame;
  frame.type = static_cast<uint16_t>(type);
  frame.step = static_cast<uint64_t>(step);
  frame.payload = std::move(payload);
  return frame;
}

}  // namespace

void ReportFailure(comm::Channel& control, const Failure& failure) {
  try {
    control.Send(FrameOf(MessageType::kFailed, Encode(failure)));
  } catch (const Error&) {
    // The sentence still reaches this rank's own log.
  }
}

model::StageSlice SliceOf(const RankOptions& options) {
  const int stage = options.grid.StageOf(options.rank);
  return {options.layer_cut[stage], options.grid.LaneOf(options.rank), options.grid.lanes, stage == 0,
          stage == options.grid.stages - 1};
}

Rank::Rank(RankOptions options, std::unique_ptr<model::StageModel> stage, ops::Ops& ops,
           comm::Communicator& world, comm::Channel& control, trace::Recorder& recorder)
    : options_(std::move(options)),
      stage_(std::move(stage)),
      ops_(ops),
      world_(world),
      control_(control),
      recorder_(recorder),
      lanes_(world.Subgroup(options_.grid.RanksOfStage(options_.grid.StageOf(options_.rank)))),
      hop_(world, stage_->slice().first ? -1 : options_.rank - options_.grid.lanes,
           stage_->slice().last ? -1 : options_.rank + options_.grid.lanes, LayoutOf(*stage_, ops.numerics()),
           options_.max_steps_in_flight) {
  world_.SetRecorder(&recorder_);
  lanes_->SetRecorder(&recorder_);
}

Rank::~Rank() = default;

void Rank::SendHeartbeat(uint64_t asked) {
  Heartbeat heartbeat;
  heartbeat.progress = recorder_.progress();
  heartbeat.rows_computed = rows_computed_;
  heartbeat.hop_bytes_sent = hop_.bytes_sent();
  heartbeat.hop_bytes_received = hop_.bytes_received();
  heartbeat.place = recorder_.place();
  heartbeat.wait = recorder_.CurrentWait();
  if (heartbeat.wait.has_value()) heartbeat.wait->since_ns = NowNs() - heartbeat.wait->since_ns;
  control_.Send(FrameOf(MessageType::kHeartbeat, Encode(heartbeat), static_cast<int64_t>(asked)));
}

void Rank::ReadControl() {
  std::string lost;
  try {
    Deadline next_heartbeat = Clock::now();
    while (true) {
      if (Clock::now() >= next_heartbeat) {
        SendHeartbeat(0);
        next_heartbeat = Clock::now() + kHeartbeatEvery;
      }
      const auto frame = control_.Receive(std::max<Duration>(next_heartbeat - Clock::now(), Duration(0)));
      if (!frame.has_value()) {
        std::lock_guard lock(mutex_);
        if (stopping_) return;
        continue;
      }
      const auto type = static_cast<MessageType>(frame->type);
      if (type == MessageType::kShutdown) {
        lost.assign(reinterpret_cast<const char*>(frame->payload.data()), frame->payload.size());
        break;
      }
      if (type == MessageType::kSpansRequest) {
        control_.Send(FrameOf(MessageType::kSpans, Encode(recorder_.Spans())));
        continue;
      }
      if (type == MessageType::kHeartbeatRequest) {
        SendHeartbeat(frame->step);
        continue;
      }
      turns_.Check(*frame);
      std::lock_guard lock(mutex_);
      if (type == MessageType::kPublish) {
        work_.emplace_back(step::DecodeStep(frame->payload));
      } else if (type == MessageType::kDumpRequest) {
        work_.emplace_back(DecodeDumpRequest(frame->payload));
      } else {
        Fail(ErrorKind::kRankLost, "the controller sent a frame of unknown type {}", frame->type);
      }
      work_arrived_.notify_all();
    }
  } catch (const std::exception& error) {
    lost = error.what();
    // Heard where it was a frame that was bad and not the connection.
    ReportFailure(control_, FailureOf(error));
  }
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    lost_controller_ = lost;
    work_arrived_.notify_all();
  }
  // Whoever waits for a peer would otherwise wait for its deadline.
  world_.Abort(lost.empty() ? "the job was shut down" : lost);
}

std::optional<Rank::Work> Rank::NextWork() {
  const trace::ScopedSpan span(&recorder_, trace::SpanKind::kIdle);
  const trace::ScopedWait wait(&recorder_, "next step", -1);
  std::unique_lock lock(mutex_);
  work_arrived_.wait(lock, [this] { return stopping_ || !work_.empty(); });
  if (stopping_) return std::nullopt;
  Work work = std::move(work_.front());
  work_.pop_front();
  return work;
}

// Posts the receives of the steps that are published already, so that their rows can travel while this rank
// computes earlier ones.
void Rank::ExpectPublished() {
  if (!hop_.has_upstream()) return;
  std::vector<std::pair<int64_t, int64_t>> steps;  // (step, this lane's rows)
  {
    std::lock_guard lock(mutex_);
    for (const Work& work : work_) {
      if (const auto* step = std::get_if<step::Step>(&work); step != nullptr && !hop_.Expects(step->id)) {
        const parallel::RowSplit split(step->RowsOfSequences(), options_.grid.lanes, options_.split_mode);
        steps.emplace_back(step->id, split.CountOf(stage_->slice().lane));
      }
    }
  }
  for (const auto& [id, rows] : steps) hop_.Expect(id, rows);
}

step::StepResult Rank::ReadOut(const step::Step& step, const model::Pass& pass, const Tensor& x) {
  step::StepResult result{step.id, {}};
  const std::vector<int64_t> wanted = model::WantedRows(step);
  const std::vector<ops::RowPlace> places = step.Places();
  for (const auto& sequence : step.sequences)
    result.sequences.push_back({sequence.sequence, false, {}, {}, {}});

  stage_->Head(pass, x, wanted, [&](int64_t first, const Tensor& logits) {
    const trace::ScopedSpan span(&recorder_, trace::SpanKind::kSample);
    for (int64_t i = 0; i < logits.rows; ++i) {
      const ops::RowPlace place = places[wanted[first + i]];
      const step::StepSequence& sequence = step.sequences[place.sequence];
      step::SequenceResult& into = result.sequences[place.sequence];
      const Tensor row = logits.RowRange(i, 1);
      const int64_t index = place.position - sequence.first_position;
      const bool last = index + 1 == static_cast<int64_t>(sequence.tokens.size());
      if (sequence.return_logits) {
        into.logits.insert(into.logits.end(), row.Row<float>(0), row.Row<float>(0) + row.cols);
      }
      if (sequence.prompt_logprobs) {
        const int32_t target = sequence.targets[index];
        into.prompt_logprobs.push_back(
            ops_.Logprobs(row, {&target, 1}, sequence.sampling.top_logprobs).front());
      }
      if (sequence.sample && last) {
        const int64_t position = place.position + 1;
        into.sampled = true;
        into.token = ops_.Sample(row, {&sequence.sampling, 1}, {&position, 1}).front();
      }
    }
  });
  return result;
}

void Rank::ComputeStep(const step::Step& step) {
  arena_.Reset();
  const model::Pass pass(step, *lanes_, options_.split_mode, ops_, arena_);
  if (hop_.has_upstream() && !hop_.Expects(step.id)) hop_.Expect(step.id, pass.rows());
  ExpectPublished();
  Buffer rows = hop_.has_upstream() ? hop_.Take(step.id) : hop_.NewBuffer(pass.rows());
  const Tensor x{rows.data(), ops::ActivationType(ops_.numerics()), pass.rows(), stage_->hidden_size(),
                 stage_->hidden_size()};
  step::StepResult result;
  {
    const trace::ScopedSpan span(&recorder_, trace::SpanKind::kCompute);
    if (!hop_.has_upstream()) stage_->Embed(pass, x);
    stage_->Layers(pass, x);
    rows_computed_ += pass.rows();  // before anything leaves: who sees the result finds the counts complete
    if (!hop_.has_downstream()) result = ReadOut(step, pass, x);
  }
  if (hop_.has_downstream()) {
    hop_.Send(step.id, pass.rows(), std::move(rows));
  } else {
    hop_.Recycle(std::move(rows));
  }
  if (!hop_.has_downstream() && stage_->slice().lane == 0) {
    control_.Send(FrameOf(MessageType::kResult, Encode(result), step.id));
  }
}

std::string Rank::Run() {
  std::thread reader([this] { ReadControl(); });
  std::string failure;
  try {
    control_.Send(FrameOf(MessageType::kReady, {}));
    while (auto work = NextWork()) {
      if (const auto* step = std::get_if<step::Step>(&*work)) {
        recorder_.SetPlace({step->id, 0, -1});
        ComputeStep(*step);
        recorder_.SetPlace({step->id, 0, -1});
      } else {
        const auto& request = std::get<DumpRequest>(*work);
        control_.Send(FrameOf(MessageType::kDump, stage_->cache().Dump(request.pages, request.tokens)));
      }
    }
    std::lock_guard lock(mutex_);
    failure = lost_controller_;
  } catch (const std::exception& error) {
    std::unique_lock lock(mutex_);
    failure = stopping_ ? lost_controller_ : error.what();
    if (!stopping_) {
      lock.unlock();
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
