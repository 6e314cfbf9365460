#include "pipeline/messages.h"

#include <gtest/gtest.h>

namespace sluice::pipeline {
namespace {

TEST(Messages, AHeartbeatReadsBack) {
  Heartbeat sent;
  sent.progress = 12;
  sent.rows_computed = 3;
  sent.hop_bytes_sent = 1LL << 40;
  sent.hop_selection_bytes_sent = 1LL << 39;
  sent.received_step = 6;
  sent.place = {5, 0, 2};
  sent.counts = {40, 41, 42, 4};
  sent.host = "node-b";
  sent.times = {1, 2, 3, 4};
  sent.period = {3, 60, 20, {10, 11, 12, 7}};
  for (const bool waits : {false, true}) {
    if (waits) sent.wait = trace::Wait{{5, 0, 2}, "hop receive", 1, 77, trace::WaitKind::kToken, 4096, 3};
    const Heartbeat got = DecodeHeartbeat(Encode(sent));
    EXPECT_EQ(got.progress, sent.progress);
    EXPECT_EQ(got.rows_computed, sent.rows_computed);
    EXPECT_EQ(got.hop_bytes_sent, sent.hop_bytes_sent);
    EXPECT_EQ(got.hop_selection_bytes_sent, sent.hop_selection_bytes_sent);
    EXPECT_EQ(got.place.step, 5);
    EXPECT_EQ(got.place.layer, 2);
    EXPECT_EQ(got.received_step, 6);
    EXPECT_EQ(got.counts.collectives, 40U);
    EXPECT_EQ(got.counts.sent, 41U);
    EXPECT_EQ(got.counts.taken, 42U);
    EXPECT_EQ(got.counts.sampled_step, 4);
    EXPECT_EQ(got.host, "node-b");
    EXPECT_EQ(got.times, sent.times);
    EXPECT_EQ(got.period, sent.period);
    ASSERT_EQ(got.wait.has_value(), waits);
    if (!waits) continue;
    EXPECT_EQ(got.wait->op, "hop receive");
    EXPECT_EQ(got.wait->peer, 1);
    EXPECT_EQ(got.wait->since_ns, 77);
    EXPECT_EQ(got.wait->kind, trace::WaitKind::kToken);
    EXPECT_EQ(got.wait->bytes, 4096);
    EXPECT_EQ(got.wait->of_step, 3);
  }
}

TEST(Messages, RecordedTimeReadsBack) {
  const RecordedTime sent{{{1, 2, trace::SpanKind::kIdle, 3, 0}, {2, 5, trace::SpanKind::kSample, 4, 1}},
                          {{4, 1, 5, 9, {1, 2, 1, 7}}}};
  const RecordedTime got = DecodeRecordedTime(Encode(sent));
  ASSERT_EQ(got.spans.size(), 2U);
  EXPECT_EQ(got.spans[1].end_ns, 5);
  EXPECT_EQ(got.spans[1].kind, trace::SpanKind::kSample);
  EXPECT_EQ(got.passes, sent.passes);
}

TEST(Messages, TruncatedAndLengthenedPayloadsAreErrors) {
  Heartbeat heartbeat;
  heartbeat.wait = trace::Wait{{}, "op", 1, 2, trace::WaitKind::kPeer, 3};
  const std::vector<std::vector<std::byte>> payloads = {
      Encode(heartbeat), Encode(DumpRequest{{1, 2, 3}, 130}), Encode(Failure{ErrorKind::kMemory, "why", 3}),
      Encode(RecordedTime{{{1, 2, trace::SpanKind::kIdle, 3, 0}}, {{4, 1, 5, 9, {1, 2, 1, 7}}}})};
  const auto decode = [](size_t which, const std::vector<std::byte>& bytes) {
    if (which == 0) DecodeHeartbeat(bytes);
    if (which == 1) DecodeDumpRequest(bytes);
    if (which == 2) DecodeFailure(bytes);
    if (which == 3) DecodeRecordedTime(bytes);
  };
  for (size_t which = 0; which < payloads.size(); ++which) {
    EXPECT_NO_THROW(decode(which, payloads[which]));
    for (size_t length = 0; length < payloads[which].size(); ++length) {
      const std::vector<std::byte> cut(payloads[which].begin(), payloads[which].begin() + length);
      EXPECT_THROW(decode(which, cut), Error) << "message " << which << " cut to " << length;
    }
    std::vector<std::byte> longer = payloads[which];
    longer.push_back(std::byte{0});
    EXPECT_THROW(decode(which, longer), Error) << "message " << which;
  }
}

}  // namespace
}  // namespace sluice::pipeline
