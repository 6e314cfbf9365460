#include "engine/local_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/small_engine.h"

namespace sluice::engine {
namespace {

using LocalEngineTest = SmallEngineTest;

TEST_F(LocalEngineTest, AnswersReportProgressAndEndByLengthOrStopToken) {
  Answer whole;
  engine_->Submit(RequestOf(100, 6), whole.sink());
  EXPECT_EQ(whole.Last().finish, FinishReason::kLength);
  const std::vector<int32_t> tokens = whole.tokens();
  ASSERT_EQ(tokens.size(), 6U);
  // It begins at what was cached, then a chunk at a time.
  const std::vector<int64_t> progress = whole.progress();
  EXPECT_EQ(std::vector<int64_t>(progress.begin(), progress.begin() + 5),
            (std::vector<int64_t>{0, 32, 64, 96, 100}));

  Request stopping = RequestOf(100, 6);
  stopping.stop_token_ids = {tokens[3]};
  Answer stopped;
  engine_->Submit(stopping, stopped.sink());
  const Event last = stopped.Last();
  EXPECT_EQ(last.finish, FinishReason::kStop);
  EXPECT_EQ(last.stop_token, tokens[3]);
  const auto first = std::find(tokens.begin(), tokens.end(), tokens[3]) - tokens.begin();
  EXPECT_EQ(stopped.tokens(), std::vector<int32_t>(tokens.begin(), tokens.begin() + first));
}

TEST_F(LocalEngineTest, PrefillOnlyAndPromptLogprobs) {
  Request request = RequestOf(70, 0);
  request.prompt_logprobs = true;
  Answer answer;
  engine_->Submit(request, answer.sink());
  EXPECT_EQ(answer.Last().finish, FinishReason::kLength);
  EXPECT_TRUE(answer.tokens().empty());
  EXPECT_EQ(answer.prompt_logprobs(), 70U);
}

TEST_F(LocalEngineTest, AnAbortedRequestEndsAndItsPagesServeTheNext) {
  // Each needs nearly the whole cache, so the second runs only when the first has handed its pages back.
  const Request large = RequestOf(1000, 200);
  Answer expected;
  engine_->Submit(RequestOf(1000, 3), expected.sink());
  expected.Last();
  Answer aborted;
  const RequestId id = engine_->Submit(large, aborted.sink());
  engine_->Abort(id);
  EXPECT_EQ(aborted.Last().finish, FinishReason::kAbort);
  Answer next;
  engine_->Submit(RequestOf(1000, 3), next.sink());
  EXPECT_EQ(next.Last().finish, FinishReason::kLength);
  EXPECT_EQ(next.tokens(), expected.tokens());
}

TEST_F(LocalEngineTest, WhatCanNeverRunIsRefusedAtOnce) {
  const auto refused = [&](const Request& request) {
    Answer answer;
    try {
      engine_->Submit(request, answer.sink());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadRequest);
      return std::string(error.what());
    }
    return std::string("taken");
  };
  EXPECT_THAT(refused(RequestOf(0, 1)), testing::HasSubstr("empty"));
  EXPECT_THAT(refused(RequestOf(1280, 1)), testing::HasSubstr("maximum context length is 1280"));
  EXPECT_THAT(refused(RequestOf(10, -1)), testing::HasSubstr("maximum context length"));
  Request outside = RequestOf(3, 1);
  outside.prompt[1] = 300;
  EXPECT_THAT(refused(outside), testing::HasSubstr("token id 300 is outside the vocabulary of 300"));
}

TEST_F(SmallModelTest, ARankThatFindsTooLittleMemoryEndsTheStartForAll) {
  JobSettings settings;
  settings.grid = {2, 2};
  settings.cache_pages = 20;
  RankProbes probes;
  probes.after_load = [](int rank, model::StageWeights&) {
    if (rank == 2) Fail(ErrorKind::kMemory, "nothing is left");
  };
  try {
    const LocalEngine engine(settings, {.chunk_rows = 32}, checkpoint_->config(), checkpoint_->is_fp8(),
                             StartThreadRanks(settings, checkpoint_, probes));
    ADD_FAILURE() << "an engine of three ranks";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kMemory);
    EXPECT_THAT(error.what(), testing::HasSubstr("nothing is left"));
  }
}

TEST_F(LocalEngineTest, StoppingEndsWhatIsUnderWayWithAnError) {
  Answer answer;
  engine_->Submit(RequestOf(1000, 200), answer.sink());
  engine_->Stop();
  const Event last = answer.Last();
  EXPECT_EQ(last.finish, FinishReason::kError);
  EXPECT_THAT(last.error, testing::HasSubstr("shutting down"));
}

}  // namespace
}  // namespace sluice::engine
