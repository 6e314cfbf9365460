#include "pipeline/turns.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/error.h"
#include "pipeline/messages.h"

namespace sluice::pipeline {
namespace {

comm::Frame Of(MessageType type, uint64_t step = 0) { return {static_cast<uint16_t>(type), step, 0, {}}; }

std::string Complaint(RankTurns& turns, const comm::Frame& frame) {
  try {
    turns.Check(frame);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kRankLost);
    return error.what();
  }
  return "";
}

TEST(TurnsTest, ResultsComeOneAfterTheOtherFromTheRankThatSamples) {
  RankTurns turns(true);
  EXPECT_EQ(Complaint(turns, Of(MessageType::kResult, 0)), "it sent the result of step 0, but is not ready");
  turns.Check(Of(MessageType::kHeartbeat));
  turns.Check(Of(MessageType::kReady));
  turns.Check(Of(MessageType::kResult, 0));
  turns.Check(Of(MessageType::kHeartbeat, 5));
  turns.Check(Of(MessageType::kResult, 1));
  EXPECT_EQ(Complaint(turns, Of(MessageType::kResult, 1)),
            "it sent the result of step 1 where step 2 was due");
  EXPECT_EQ(Complaint(turns, Of(MessageType::kReady)), "it said twice that it is ready");

  RankTurns other(false);
  other.Check(Of(MessageType::kReady));
  EXPECT_EQ(Complaint(other, Of(MessageType::kResult, 0)),
            "it sent the result of step 0, but is not the rank that samples");
}

TEST(TurnsTest, AnswersAreThoseThatWereAskedFor) {
  RankTurns turns(false);
  EXPECT_EQ(Complaint(turns, Of(MessageType::kSpans)), "it sent spans that nobody has asked for");
  turns.Asked(Of(MessageType::kSpansRequest));
  turns.Asked(Of(MessageType::kDumpRequest));
  turns.Check(Of(MessageType::kSpans));
  turns.Check(Of(MessageType::kDump));
  EXPECT_EQ(Complaint(turns, Of(MessageType::kDump)), "it sent a cache dump that nobody has asked for");
}

TEST(TurnsTest, AFailureIsTheLastWord) {
  RankTurns turns(true);
  turns.Check(Of(MessageType::kReady));
  turns.Check(Of(MessageType::kFailed));
  turns.Check(Of(MessageType::kHeartbeat));
  EXPECT_EQ(Complaint(turns, Of(MessageType::kResult, 0)),
            "it sent a frame of type 2 after it had reported its failure");
}

}  // namespace
}  // namespace sluice::pipeline
