#include "pipeline/turns.h"

#include "base/error.h"
#include "pipeline/messages.h"

namespace sluice::pipeline {
namespace {

// One more answer, if one is due.
void TakeAnswer(int& due, const char* what) {
  if (due == 0) Fail(ErrorKind::kRankLost, "it sent {} that nobody has asked for", what);
  --due;
}

}  // namespace

void RankTurns::Asked(const comm::Frame& request) {
  const auto type = static_cast<MessageType>(request.type);
  if (type == MessageType::kSpansRequest) ++spans_due_;
  if (type == MessageType::kDumpRequest) ++dumps_due_;
}

void RankTurns::Check(const comm::Frame& frame) {
  const auto type = static_cast<MessageType>(frame.type);
  const bool ordered = type == MessageType::kReady || type == MessageType::kResult ||
                       type == MessageType::kSpans || type == MessageType::kDump ||
                       type == MessageType::kFailed;
  if (!ordered) return;
  if (failed_) {
    Fail(ErrorKind::kRankLost, "it sent a frame of type {} after it had reported its failure", frame.type);
  }
  switch (type) {
    case MessageType::kReady:
      if (ready_) Fail(ErrorKind::kRankLost, "it said twice that it is ready");
      ready_ = true;
      return;
    case MessageType::kResult:
      if (!samples_ || !ready_) {
        Fail(ErrorKind::kRankLost, "it sent the result of step {}, but {}", frame.step,
             samples_ ? "is not ready" : "is not the rank that samples");
      }
      if (frame.step != next_result_) {
        Fail(ErrorKind::kRankLost, "it sent the result of step {} where step {} was due", frame.step,
             next_result_);
      }
      ++next_result_;
      return;
    case MessageType::kSpans:
      return TakeAnswer(spans_due_, "spans");
    case MessageType::kDump:
      return TakeAnswer(dumps_due_, "a cache dump");
    default:
      failed_ = true;
  }
}

}  // namespace sluice::pipeline
