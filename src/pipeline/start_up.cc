#include "pipeline/start_up.h"

#include "base/error.h"
#include "pipeline/messages.h"

namespace sluice::pipeline {

StartUpHeartbeats::StartUpHeartbeats(comm::Channel& control, const trace::Recorder& recorder)
    : control_(control), recorder_(recorder) {
  if (Beat()) thread_ = std::thread([this] { Run(); });
}

StartUpHeartbeats::~StartUpHeartbeats() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  ending_changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool StartUpHeartbeats::Beat() {
  comm::Frame frame;
  frame.type = static_cast<uint16_t>(MessageType::kHeartbeat);
  frame.payload = Encode(HeartbeatOf(recorder_));
  try {
    control_.Send(frame);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void StartUpHeartbeats::Run() {
  std::unique_lock lock(mutex_);
  while (!ending_changed_.wait_for(lock, kHeartbeatEvery, [this] { return ending_; })) {
    lock.unlock();
    if (!Beat()) return;
    lock.lock();
  }
}

}  // namespace sluice::pipeline
