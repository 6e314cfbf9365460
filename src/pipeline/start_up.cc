#include "pipeline/start_up.h"

#include "base/error.h"
#include "pipeline/messages.h"

namespace sluice::pipeline {

StartUpHeartbeats::StartUpHeartbeats(comm::Channel& control, const trace::Recorder& recorder)
    : control_(control), recorder_(recorder), thread_([this] { Beat(); }) {}

StartUpHeartbeats::~StartUpHeartbeats() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  ending_changed_.notify_all();
  thread_.join();
}

void StartUpHeartbeats::Beat() {
  comm::Frame frame;
  frame.type = static_cast<uint16_t>(MessageType::kHeartbeat);
  std::unique_lock lock(mutex_);
  do {
    frame.payload = Encode(HeartbeatOf(recorder_));
    lock.unlock();
    try {
      control_.Send(frame);
    } catch (const Error&) {
      return;
    }
    lock.lock();
  } while (!ending_changed_.wait_for(lock, kHeartbeatEvery, [this] { return ending_; }));
}

}  // namespace sluice::pipeline
