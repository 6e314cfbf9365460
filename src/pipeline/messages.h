#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/frame.h"
#include "trace/recorder.h"

// The control plane's vocabulary between the controller and a rank. Every message is one frame
// (comm/frame.h); step and pass stand in the frame's header, the rest is the payload.
namespace sluice::pipeline {

enum class MessageType : uint16_t {
  kPublish = 1,       // controller -> rank: a step (step/step.h); its first pass is next in the rank's list
  kResult = 2,        // last stage, lane 0 -> controller: what it found
  kHeartbeat = 3,     // rank -> controller, a few times a second: Heartbeat
  kReady = 4,         // rank -> controller: weights are packed, caches are there
  kFailed = 5,        // rank -> controller: Failure, the error that ended it
  kSpansRequest = 6,  // controller -> rank: answer with kSpans
  kSpans = 7,         // RecordedTime
  kHeartbeatRequest = 8,  // controller -> rank: a heartbeat at once, of the same step number
  kDumpRequest = 9,       // controller -> rank: the cache of a sequence, after the steps published before
  kDump = 10,
  kShutdown = 11,  // controller -> rank: end; the payload is the verdict, empty for a planned end
  kPass = 12,      // controller -> rank: the pass in the header, a later visit of a published step, is next
  kEventsRequest = 13,  // controller -> rank: answer with kEvents; the step is the number of the first wanted
  kEvents = 14,         // RankEvents; also unasked, before kFailed, where RankOptions::events_on_failure
  kClockRequest = 15,   // controller -> rank: answer with kClock of the same step number, at once
  kClock = 16,          // ClockReading
};

// The frame of a message, without its number and pass.
comm::Frame FrameOf(MessageType type, std::vector<std::byte> payload = {}, int64_t step = 0);

// What a rank says of itself, and the counts of /get_server_info.
struct Heartbeat {
  uint64_t progress = 0;
  int64_t rows_computed = 0;
  int64_t hop_bytes_sent = 0;
  int64_t hop_bytes_received = 0;
  int64_t hop_selection_bytes_sent = 0;  // of hop_bytes_sent
  int64_t expert_choice_bytes = 0;       // these four: model::ExpertTraffic
  int64_t expert_dispatch_bytes = 0;
  int64_t expert_return_bytes = 0;
  int64_t expert_row_owners = 0;
  int64_t received_step = -1;  // last published step that has reached the rank
  trace::Place place;
  trace::Counts counts;
  std::string host;
  trace::Times times;  // since the rank was ready
  // Clocks differ between hosts: on the wire, and until the controller has put them on its own clock,
  // since_ns is how long the wait has lasted, and the period's begin_ns and end_ns how long ago it began and
  // ended.
  trace::BusyPeriod period;
  std::optional<trace::Wait> wait;
};

struct Failure {
  ErrorKind kind = ErrorKind::kInternal;
  std::string sentence;
  int32_t accused = -1;  // the rank that is to blame, where that is another one
};
// kInternal for anything that is not an Error.
Failure FailureOf(const std::exception& error);

struct DumpRequest {
  std::vector<int32_t> pages;
  int64_t tokens = 0;
};

// What a rank's recorder says now; the rest is left as it is by default. `host` is the name of this host.
Heartbeat HeartbeatOf(const trace::Recorder& recorder);
// What is left in a recorder's rings; on the rank's own clock.
struct RecordedTime {
  std::vector<trace::Span> spans;
  std::vector<trace::PassTimes> passes;
};

// What a rank's monotonic clock says when it is asked, and which clock that is.
struct ClockReading {
  int64_t now_ns = 0;
  std::string identity;  // trace::ClockIdentity
};

std::vector<std::byte> Encode(const Heartbeat& heartbeat);
Heartbeat DecodeHeartbeat(std::span<const std::byte> bytes);
std::vector<std::byte> Encode(const Failure& failure);
Failure DecodeFailure(std::span<const std::byte> bytes);
std::vector<std::byte> Encode(const DumpRequest& request);
DumpRequest DecodeDumpRequest(std::span<const std::byte> bytes);
std::vector<std::byte> Encode(const RecordedTime& time);
RecordedTime DecodeRecordedTime(std::span<const std::byte> bytes);
std::vector<std::byte> Encode(const trace::RankEvents& events);
trace::RankEvents DecodeRankEvents(std::span<const std::byte> bytes);
std::vector<std::byte> Encode(const ClockReading& reading);
ClockReading DecodeClockReading(std::span<const std::byte> bytes);

}  // namespace sluice::pipeline
