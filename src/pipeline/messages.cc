#include "pipeline/messages.h"

#include "base/wire.h"

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

std::vector<std::byte> Encode(const Heartbeat& heartbeat) {
  WireWriter out;
  out.Put(heartbeat.progress);
  out.Put(heartbeat.rows_computed);
  out.Put(heartbeat.hop_bytes_sent);
  out.Put(heartbeat.hop_bytes_received);
  PutPlace(out, heartbeat.place);
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
  heartbeat.place = GetPlace(in);
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
    heartbeat.wait = std::move(wait);
  }
  in.Done();
  return heartbeat;
}

Failure FailureOf(const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  return {known != nullptr ? known->kind() : ErrorKind::kInternal, error.what()};
}

std::vector<std::byte> Encode(const Failure& failure) {
  WireWriter out;
  out.Put(failure.kind);
  out.PutString(failure.sentence);
  return out.Take();
}

Failure DecodeFailure(std::span<const std::byte> bytes) {
  WireReader in(bytes);
  Failure failure;
  failure.kind = in.Get<ErrorKind>();
  failure.sentence = in.GetString();
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

}  // namespace sluice::pipeline
