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

}  // namespace

std::vector<std::byte> Encode(const Heartbeat& heartbeat) {
  WireWriter out;
  out.Put(heartbeat.progress);
  out.Put(heartbeat.rows_computed);
  out.Put(heartbeat.hop_bytes_sent);
  out.Put(heartbeat.hop_bytes_received);
  out.Put(heartbeat.expert_choice_bytes);
  out.Put(heartbeat.expert_dispatch_bytes);
  out.Put(heartbeat.expert_return_bytes);
  out.Put(heartbeat.expert_row_owners);
  PutPlace(out, heartbeat.place);
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
  heartbeat.expert_choice_bytes = in.Get<int64_t>();
  heartbeat.expert_dispatch_bytes = in.Get<int64_t>();
  heartbeat.expert_return_bytes = in.Get<int64_t>();
  heartbeat.expert_row_owners = in.Get<int64_t>();
  heartbeat.place = GetPlace(in);
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

std::vector<std::byte> Encode(const std::vector<trace::Span>& spans) {
  WireWriter out;
  out.Put<uint64_t>(spans.size());
  for (const trace::Span& span : spans) {
    out.Put(span.begin_ns);
    out.Put(span.end_ns);
    out.Put(span.kind);
    out.Put(span.step);
    out.Put(span.pass);
  }
  return out.Take();
}

std::vector<trace::Span> DecodeSpans(std::span<const std::byte> bytes) {
  constexpr size_t kSpanBytes = 29;
  WireReader in(bytes);
  const auto count = in.Get<uint64_t>();
  if (count > in.left() / kSpanBytes)
    Fail(ErrorKind::kRankLost, "a frame of spans announces {} of them", count);
  std::vector<trace::Span> spans(count);
  for (trace::Span& span : spans) {
    span.begin_ns = in.Get<int64_t>();
    span.end_ns = in.Get<int64_t>();
    span.kind = in.Get<trace::SpanKind>();
    span.step = in.Get<int64_t>();
    span.pass = in.Get<int32_t>();
  }
  in.Done();
  return spans;
}

}  // namespace sluice::pipeline
