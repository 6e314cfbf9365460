#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "comm/ordered_channel.h"
#include "engine/job.h"
#include "engine/small_engine.h"

// What a rank says out of turn ends the job with a sentence that names it. Hands play the ranks.
namespace sluice::engine {
namespace {

using pipeline::MessageType;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int kSampling = 2;  // lane 0 of the last of 2 stages x 2 lanes

// The ranks' ends are bare, so that the hands can give any number to a frame.
class PlayedRanks final : public RankSet {
 public:
  PlayedRanks() {
    for (int rank = 0; rank < 4; ++rank) {
      auto [here, there] = comm::MakeChannelPair();
      here->SetPeer("it");
      channels_.push_back(comm::MakeOrderedChannel(std::move(here)));
      hands.push_back(std::move(there));
      hands.back()->Send({static_cast<uint16_t>(MessageType::kReady), 0, 0, {}, 1});
    }
  }
  comm::Channel& channel(int rank) override { return *channels_[rank]; }
  std::string ReasonGone(int) override { return ""; }
  int ProcessId(int) override { return -1; }
  void Stop(Duration) override {}

  std::vector<std::unique_ptr<comm::Channel>> hands;

 private:
  std::vector<std::unique_ptr<comm::Channel>> channels_;
};

// How a job ends when `rank` sends `frame` once all are ready.
std::string VerdictOf(int rank, const comm::Frame& frame) {
  JobSettings settings;
  settings.grid = {2, 2};
  auto ranks = std::make_unique<PlayedRanks>();
  PlayedRanks& played = *ranks;
  std::promise<std::string> ended;
  JobEvents events;
  events.on_end = [&](const std::string& verdict) { ended.set_value(verdict); };
  Job job(settings, std::move(ranks), std::move(events));
  played.hands[rank]->Send(frame);
  auto verdict = ended.get_future();
  return verdict.wait_for(std::chrono::seconds(20)) == std::future_status::ready ? verdict.get() : "none";
}

comm::Frame Of(MessageType type, uint64_t step, uint64_t number) {
  return {static_cast<uint16_t>(type), step, 0, {}, number};
}

TEST(JobOrderTest, AResultOutOfTurnEndsTheJob) {
  EXPECT_THAT(VerdictOf(kSampling, Of(MessageType::kResult, 1, 2)),
              AllOf(StartsWith("rank 2 (stage 1, lane 0)"),
                    HasSubstr("it sent the result of step 1 where step 0 was due")));
  EXPECT_THAT(VerdictOf(1, Of(MessageType::kResult, 0, 2)),
              AllOf(StartsWith("rank 1 (stage 0, lane 1)"), HasSubstr("is not the rank that samples")));
}

TEST(JobOrderTest, AnUnknownFrameEndsTheJob) {
  EXPECT_THAT(VerdictOf(3, Of(static_cast<MessageType>(999), 0, 2)),
              AllOf(StartsWith("rank 3 (stage 1, lane 1)"), HasSubstr("unknown type 999")));
}

TEST(JobOrderTest, ALostAndARepeatedFrameEndTheJob) {
  EXPECT_THAT(
      VerdictOf(0, Of(MessageType::kHeartbeat, 0, 3)),
      AllOf(StartsWith("rank 0 (stage 0, lane 0)"), HasSubstr("control frame 3 of it, of type 3, came after "
                                                              "frame 1")));
  EXPECT_THAT(VerdictOf(0, Of(MessageType::kReady, 0, 1)), HasSubstr("came again after frame 1"));
}

// A rank of a small model in a thread, to be spoken to directly.
class RankOrderTest : public SmallModelTest {
 protected:
  void SetUp() override {
    SmallModelTest::SetUp();
    JobSettings settings;
    settings.cache_pages = 4;
    ranks_ = StartThreadRanks(settings, checkpoint_, {});
    Next(MessageType::kReady);
  }
  void TearDown() override {
    ranks_.reset();
    SmallModelTest::TearDown();
  }
  // The next frame of this type; others, such as heartbeats, are passed over.
  comm::Frame Next(MessageType type) {
    const Deadline deadline = Clock::now() + std::chrono::seconds(20);
    while (Clock::now() < deadline) {
      auto frame = ranks_->channel(0).Receive(std::chrono::seconds(1));
      if (frame.has_value() && frame->type == static_cast<uint16_t>(type)) return *std::move(frame);
    }
    ADD_FAILURE() << "no frame of type " << static_cast<int>(type);
    return {};
  }

  std::unique_ptr<RankSet> ranks_;
};

TEST_F(RankOrderTest, ARankReportsWhatItHeardOutOfTurn) {
  step::Step step;
  step.id = 5;
  ranks_->channel(0).Send({static_cast<uint16_t>(MessageType::kPublish), 5, 0, Encode(step)});
  const pipeline::Failure failure = pipeline::DecodeFailure(Next(MessageType::kFailed).payload);
  EXPECT_EQ(failure.kind, ErrorKind::kRankLost);
  EXPECT_THAT(failure.sentence, HasSubstr("published step 5 out of turn: step 0 is the next"));
}

TEST_F(RankOrderTest, ARankReportsAFrameItDoesNotKnow) {
  ranks_->channel(0).Send({999, 0, 0, {}});
  EXPECT_THAT(pipeline::DecodeFailure(Next(MessageType::kFailed).payload).sentence,
              HasSubstr("unknown type 999"));
}

}  // namespace
}  // namespace sluice::engine
