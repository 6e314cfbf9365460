#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "comm/channel.h"
#include "trace/recorder.h"

namespace sluice::pipeline {

// How often a rank says that it is there, and what it waits for.
inline constexpr Duration kHeartbeatEvery = std::chrono::milliseconds(200);

// Heartbeats of a rank that is not at work yet: one at once, then by a thread of its own until destruction,
// so that a rank that stops while it loads is found like any other. A controller that is gone is no error
// here.
class StartUpHeartbeats {
 public:
  StartUpHeartbeats(comm::Channel& control, const trace::Recorder& recorder);
  ~StartUpHeartbeats();
  StartUpHeartbeats(const StartUpHeartbeats&) = delete;
  StartUpHeartbeats& operator=(const StartUpHeartbeats&) = delete;

 private:
  // False when there is nobody to hear it any more.
  bool Beat();
  void Run();

  comm::Channel& control_;
  const trace::Recorder& recorder_;
  std::mutex mutex_;
  std::condition_variable ending_changed_;
  bool ending_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace sluice::pipeline
