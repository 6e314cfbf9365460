#include "pipeline/messages.h"

#include <unistd.h>

#include <array>

#include "base/wire.h"
#include "comm/damage.h"

namespace sluice::pipeline {
namespace {

void PutPlace(WireWriter& out, const trace::Place& place) {
  out.Put(place.step);
  out.Put(place.pass);
  out.Put(place.layer);
}
trace::Place GetPlace(WireReader& in) {
  trace::Place place;
  place.step = in.Get<int64_t>();
  place.pass = in.Get<int32_t>();
  place.layer = in.Get<int32_t>();
  return place;
}

std::string HostName() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

void PutTimes(WireWriter& out, const trace::Times& times) {
  out.Put(times.compute_ns);
  out.Put(times.wait_ns);
  out.Put(times.hop_ns);
  out.Put(times.idle_ns);
}
trace::Times GetTimes(WireReader& in) {
  trace::Times times;
  times.compute_ns = in.Get<int64_t>();
  times.wait_ns = in.Get<int64_t>();
  times.hop_ns = in.Get<int64_t>();
  times.idle_ns = in.Get<int64_t>();
  return times;
}

uint64_t GetCount(WireReader& in, size_t element_bytes) {
  const auto count = in.Get<uint64_t>();
  if (count > in.left() / element_bytes) {
    Fail(ErrorKind::kRankLost, "a frame of recorded times announces {} of them, {} bytes are left", count,
         in.left());
  }
  return count;
}

}  // namespace

comm::Frame FrameOf(MessageType type, std::vector<std::byte> payload, int64_t step) {
  comm::Frame frame;
  frame.type = static_cast<uint16_t>(type);
  frame.step = static_cast<uint64_t>(step);
  frame.payload = std::move(payload);
  return frame;
}

Heartbeat HeartbeatOf(const trace::Recorder& recorder) {
  static const std::string host = HostName();
  Heartbeat heartbeat;
  heartbeat.progress = recorder.progress();
  heartbeat.place = recorder.place();
  heartbeat.counts = recorder.counts();
  heartbeat.host = host;
  heartbeat.wait = recorder.CurrentWait();
  if (heartbeat.wait.has_value()) heartbeat.wait->since_ns = NowNs() - heartbeat.wait->since_ns;
  return heartbeat;
}

std::vector<std::byte> Encode(const Heartbeat& heartbeat) {
  WireWriter out;
  out.Put(heartbeat.progress);
  out.Put(heartbeat.rows_computed);
  out.Put(heartbeat.hop_bytes_sent);
  out.Put(heartbeat.hop_bytes_received);
  out.Put(heartbeat.hop_selection_bytes_sent);
  out.Put(heartbeat.expert_choice_bytes);
  out.Put(heartbeat.expert_dispatch_bytes);
  out.Put(heartbeat.expert_return_bytes);
  out.Put(heartbeat.expert_row_owners);
  out.Put(heartbeat.received_step);
  PutPlace(out, heartbeat.place);
  out.Put(heartbeat.counts.collectives);
  out.Put(heartbeat.counts.sent);
  out.Put(heartbeat.counts.taken);
  out.Put(heartbeat.counts.sampled_step);
  out.PutString(heartbeat.host);
  PutTimes(out, heartbeat.times);
  out.Put(heartbeat.period.step);
  out.Put(heartbeat.period.begin_ns);
  out.Put(heartbeat.period.end_ns);
  PutTimes(out, heartbeat.period.times);
  out.Put<uint8_t>(heartbeat.wait.has_value() ? 1 : 0);
  if (heartbeat.wait.has_value()) {
    PutPlace(out, heartbeat.wait->place);
    out.PutString(heartbeat.wait->op);
    out.Put(heartbeat.wait->peer);
    out.Put(heartbeat.wait->since_ns);
    out.Put(heartbeat.wait->kind);
    out.Put(heartbeat.wait->bytes);
    out.Put(heartbeat.wait->of_step);
  }
  return out.Take();
}

Heartbeat DecodeHeartbeat(std::span<const std::byte> bytes) {
  WireReader in(bytes);
  Heartbeat heartbeat;
  heartbeat.progress = in.Get<uint64_t>();
  heartbeat.rows_computed = in.Get<int64_t>();
  heartbeat.hop_bytes_sent = in.Get<int64_t>();
  heartbeat.hop_bytes_received = in.Get<int64_t>();
  heartbeat.hop_selection_bytes_sent = in.Get<int64_t>();
  heartbeat.expert_choice_bytes = in.Get<int64_t>();
  heartbeat.expert_dispatch_bytes = in.Get<int64_t>();
  heartbeat.expert_return_bytes = in.Get<int64_t>();
  heartbeat.expert_row_owners = in.Get<int64_t>();
  heartbeat.received_step = in.Get<int64_t>();
  heartbeat.place = GetPlace(in);
  heartbeat.counts.collectives = in.Get<uint64_t>();
  heartbeat.counts.sent = in.Get<uint64_t>();
  heartbeat.counts.taken = in.Get<uint64_t>();
  heartbeat.counts.sampled_step = in.Get<int64_t>();
  heartbeat.host = in.GetString();
  heartbeat.times = GetTimes(in);
  heartbeat.period.step = in.Get<int64_t>();
  heartbeat.period.begin_ns = in.Get<int64_t>();
  heartbeat.period.end_ns = in.Get<int64_t>();
  heartbeat.period.times = GetTimes(in);
  if (in.Get<uint8_t>() != 0) {
    trace::Wait wait;
    wait.place = GetPlace(in);
    wait.op = in.GetString();
    wait.peer = in.Get<int32_t>();
    wait.since_ns = in.Get<int64_t>();
    wait.kind = in.Get<trace::WaitKind>();
    wait.bytes = in.Get<int64_t>();
    wait.of_step = in.Get<int64_t>();
    heartbeat.wait = std::move(wait);
  }
  in.Done();
  return heartbeat;
}

Failure FailureOf(const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  const auto* of_peer = dynamic_cast<const comm::PeerError*>(&error);
  return {known != nullptr ? known->kind() : ErrorKind::kInternal, error.what(),
          of_peer != nullptr ? of_peer->peer() : -1};
}

std::vector<std::byte> Encode(const Failure& failure) {
  WireWriter out;
  out.Put(failure.kind);
  out.PutString(failure.sentence);
  out.Put(failure.accused);
  return out.Take();
}

Failure DecodeFailure(std::span<const std::byte> bytes) {
  WireReader in(bytes);
  Failure failure;
  failure.kind = in.Get<ErrorKind>();
  failure.sentence = in.GetString();
  failure.accused = in.Get<int32_t>();
  in.Done();
  return failure;
}

std::vector<std::byte> Encode(const DumpRequest& request) {
  WireWriter out;
  out.PutList<int32_t>(request.pages);
  out.Put(request.tokens);
  return out.Take();
}

DumpRequest DecodeDumpRequest(std::span<const std::byte> bytes) {
  WireReader in(bytes);
  DumpRequest request;
  request.pages = in.GetList<int32_t>();
  request.tokens = in.Get<int64_t>();
  in.Done();
  return request;
}

std::vector<std::byte> Encode(const RecordedTime& time) {
  WireWriter out;
  out.Put<uint64_t>(time.spans.size());
  for (const trace::Span& span : time.spans) {
    out.Put(span.begin_ns);
    out.Put(span.end_ns);
    out.Put(span.kind);
    out.Put(span.step);
    out.Put(span.pass);
  }
  out.Put<uint64_t>(time.passes.size());
  for (const trace::PassTimes& pass : time.passes) {
    out.Put(pass.step);
    out.Put(pass.pass);
    out.Put(pass.begin_ns);
    out.Put(pass.end_ns);
    PutTimes(out, pass.times);
  }
  return out.Take();
}

RecordedTime DecodeRecordedTime(std::span<const std::byte> bytes) {
  constexpr size_t kSpanBytes = 29;
  constexpr size_t kPassBytes = 60;
  WireReader in(bytes);
  RecordedTime time;
  time.spans.resize(GetCount(in, kSpanBytes));
  for (trace::Span& span : time.spans) {
    span.begin_ns = in.Get<int64_t>();
    span.end_ns = in.Get<int64_t>();
    span.kind = in.Get<trace::SpanKind>();
    span.step = in.Get<int64_t>();
    span.pass = in.Get<int32_t>();
  }
  time.passes.resize(GetCount(in, kPassBytes));
  for (trace::PassTimes& pass : time.passes) {
    pass.step = in.Get<int64_t>();
    pass.pass = in.Get<int32_t>();
    pass.begin_ns = in.Get<int64_t>();
    pass.end_ns = in.Get<int64_t>();
    pass.times = GetTimes(in);
  }
  in.Done();
  return time;
}

std::vector<std::byte> Encode(const trace::RankEvents& events) {
  WireWriter out(events.events.size() * trace::kEventBytes + 4096);
  out.Put(events.next);
  out.Put(events.lost);
  out.Put(events.started_ns);
  out.Put(events.now_ns);
  out.Put<uint64_t>(events.names.size());
  for (const std::string& name : events.names) out.PutString(name);
  out.PutList<trace::Event>(events.events);
  return out.Take();
}

trace::RankEvents DecodeRankEvents(std::span<const std::byte> bytes) {
  WireReader in(bytes);
  trace::RankEvents events;
  events.next = in.Get<uint64_t>();
  events.lost = in.Get<uint64_t>();
  events.started_ns = in.Get<int64_t>();
  events.now_ns = in.Get<int64_t>();
  const uint64_t names = GetCount(in, sizeof(uint64_t));
  for (uint64_t i = 0; i < names; ++i) events.names.push_back(in.GetString());
  events.events = in.GetList<trace::Event>();
  in.Done();
  for (const trace::Event& event : events.events) {
    if (event.name >= names || static_cast<int>(event.kind) >= trace::kEventKinds) {
      Fail(ErrorKind::kRankLost, "an event of kind {} has name {} of {}", static_cast<int>(event.kind),
           event.name, names);
    }
  }
  return events;
}

std::vector<std::byte> Encode(const ClockReading& reading) {
  WireWriter out;
  out.Put(reading.now_ns);
  out.PutString(reading.identity);
  return out.Take();
}

ClockReading DecodeClockReading(std::span<const std::byte> bytes) {
  WireReader in(bytes);
  ClockReading reading;
  reading.now_ns = in.Get<int64_t>();
  reading.identity = in.GetString();
  in.Done();
  return reading;
}

}  // namespace sluice::pipeline
