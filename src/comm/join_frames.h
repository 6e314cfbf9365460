#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/error.h"
#include "comm/channel.h"

namespace sluice::comm {

// The frames of rendezvous.h. Their numbers are far from those of the job's own messages, so that a message
// that comes too early is seen to be one.
enum class JoinFrame : uint16_t {
  kHello = 0xff00,      // i32 rank, i32 world, string build, string description
  kWelcome = 0xff01,    // empty
  kRefused = 0xff02,    // string sentence
  kSet = 0xff03,        // string key, list of bytes
  kGet = 0xff04,        // string key, i64 nanoseconds to wait
  kValue = 0xff05,      // list of bytes
  kNoValue = 0xff06,    // empty
  kConnected = 0xff07,  // empty
};

inline void SendJoin(Channel& channel, JoinFrame type, std::vector<std::byte> payload = {}) {
  Frame frame;
  frame.type = static_cast<uint16_t>(type);
  frame.payload = std::move(payload);
  channel.Send(frame);
}

inline JoinFrame TypeOf(const Frame& frame) { return static_cast<JoinFrame>(frame.type); }

[[noreturn]] inline void FailUnexpected(const Channel& channel, const Frame& frame) {
  Fail(ErrorKind::kRankLost, "{} sent a frame of type {:#06x} out of turn while joining", channel.peer(),
       frame.type);
}

}  // namespace sluice::comm
