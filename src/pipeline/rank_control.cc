#include <algorithm>
#include <utility>

#include "pipeline/rank.h"
#include "pipeline/start_up.h"
#include "trace/clock_line.h"

// A rank's side of the control plane: the thread that reads the controller's frames, and what it is told.
namespace sluice::pipeline {

void ReportFailure(comm::Channel& control, const Failure& failure) {
  try {
    control.Send(FrameOf(MessageType::kFailed, Encode(failure)));
  } catch (const Error&) {
    // The sentence still reaches this rank's own log.
  }
}

// For a trace of how it came to a failure; a controller that is gone misses it.
void Rank::SendEvents() {
  try {
    control_.Send(FrameOf(MessageType::kEvents, Encode(recorder_.Events())));
  } catch (const Error&) {
  }
}

void Rank::SendHeartbeat(uint64_t asked) {
  Heartbeat heartbeat = HeartbeatOf(recorder_);
  heartbeat.rows_computed = rows_computed_;
  heartbeat.hop_bytes_sent = hop_.bytes_sent();
  heartbeat.hop_bytes_received = hop_.bytes_received();
  heartbeat.hop_selection_bytes_sent = hop_.selection_bytes_sent();
  const model::ExpertTraffic& experts = stage_->expert_traffic();
  heartbeat.expert_choice_bytes = experts.choice_bytes;
  heartbeat.expert_dispatch_bytes = experts.dispatch_bytes;
  heartbeat.expert_return_bytes = experts.return_bytes;
  heartbeat.expert_row_owners = experts.row_owners;
  heartbeat.received_step = received_step_;
  heartbeat.times = recorder_.times();
  heartbeat.period = recorder_.period();
  const int64_t now_ns = NowNs();
  heartbeat.period.begin_ns = now_ns - heartbeat.period.begin_ns;
  heartbeat.period.end_ns = now_ns - heartbeat.period.end_ns;
  control_.Send(FrameOf(MessageType::kHeartbeat, Encode(heartbeat), static_cast<int64_t>(asked)));
}

Rank::PassWork Rank::NextOnList(const comm::Frame& frame) {
  const int last_visit = options_.grid.virtual_stages - 1;
  if (static_cast<MessageType>(frame.type) == MessageType::kPublish) {
    PassWork work{std::make_shared<const step::Step>(step::DecodeStep(frame.payload)), 0};
    if (work.step->id != next_step_) {
      Fail(ErrorKind::kRankLost, "the controller published step {} out of turn: step {} is the next",
           work.step->id, next_step_);
    }
    ++next_step_;
    if (last_visit > 0) begun_.emplace(work.step->id, work);
    return work;
  }
  const auto begun = begun_.find(static_cast<int64_t>(frame.step));
  if (begun == begun_.end() || begun->second.visit + 1 != static_cast<int32_t>(frame.pass)) {
    Fail(ErrorKind::kRankLost, "the controller listed pass {} of step {} out of turn", frame.pass,
         frame.step);
  }
  ++begun->second.visit;
  const PassWork work = begun->second;
  if (work.visit == last_visit) begun_.erase(begun);
  return work;
}

void Rank::ReadControl() {
  const std::string identity_of_clock = trace::ClockIdentity();
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
        control_.Send(
            FrameOf(MessageType::kSpans, Encode(RecordedTime{recorder_.Spans(), recorder_.Passes()})));
        continue;
      }
      if (type == MessageType::kEventsRequest) {
        control_.Send(FrameOf(MessageType::kEvents, Encode(recorder_.Events(frame->step))));
        continue;
      }
      if (type == MessageType::kClockRequest) {
        const ClockReading reading{NowNs(), identity_of_clock};
        control_.Send(FrameOf(MessageType::kClock, Encode(reading), static_cast<int64_t>(frame->step)));
        continue;
      }
      if (type == MessageType::kHeartbeatRequest) {
        SendHeartbeat(frame->step);
        continue;
      }
      std::lock_guard lock(mutex_);
      if (type == MessageType::kPublish || type == MessageType::kPass) {
        work_.push_back({NextOnList(*frame), nullptr});
        if (type == MessageType::kPublish) received_step_ = static_cast<int64_t>(frame->step);
      } else if (type == MessageType::kDumpRequest) {
        work_.push_back({{}, std::make_shared<const DumpRequest>(DecodeDumpRequest(frame->payload))});
      } else {
        Fail(ErrorKind::kRankLost, "the controller sent a frame of unknown type {}", frame->type);
      }
      work_arrived_.notify_all();
    }
  } catch (const std::exception& error) {
    lost = error.what();
    // Of a frame that was damaged, lost or out of turn on its way here the controller does not know. It is
    // this rank's connection that is broken; one that has ended hears nothing any more.
    Failure failure = FailureOf(error);
    failure.accused = options_.rank;
    ReportFailure(control_, failure);
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

}  // namespace sluice::pipeline
