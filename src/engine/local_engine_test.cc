#include "engine/local_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <future>

#include "checkpoint/checkpoint_maker.h"

namespace sluice::engine {
namespace {

// What a request's sink has seen.
class Answer {
 public:
  EventSink sink() {
    return [this](Event event) {
      std::lock_guard lock(mutex_);
      tokens_.insert(tokens_.end(), event.tokens.begin(), event.tokens.end());
      if (!event.prompt_logprobs.empty()) prompt_logprobs_ = event.prompt_logprobs.size();
      if (event.prompt_tokens_done > 0) ++progress_;
      if (event.finish.has_value()) finished_.set_value(event);
    };
  }
  Event Last() {
    auto last = finished_.get_future();
    SLUICE_CHECK(last.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
    return last.get();
  }
  std::vector<int32_t> tokens() {
    std::lock_guard lock(mutex_);
    return tokens_;
  }
  size_t prompt_logprobs() {
    std::lock_guard lock(mutex_);
    return prompt_logprobs_;
  }
  int progress() {
    std::lock_guard lock(mutex_);
    return progress_;
  }

 private:
  std::mutex mutex_;
  std::vector<int32_t> tokens_;
  size_t prompt_logprobs_ = 0;
  int progress_ = 0;
  std::promise<Event> finished_;
};

class LocalEngineTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-engine-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    checkpoint::MakeOptions options;
    options.format = checkpoint::WeightFormat::kF32;
    options.config_overrides = {"hidden_size=128", "num_hidden_layers=2", "num_attention_heads=2",
                                "vocab_size=300", "intermediate_size=128"};
    checkpoint::MakeCheckpoint(directory_ / "model", options, checkpoint::PlanCheckpoint(options), {});
    std::shared_ptr<const checkpoint::Checkpoint> checkpoint =
        checkpoint::Checkpoint::Open(directory_ / "model");
    JobSettings settings;
    settings.grid = {2, 2};
    settings.cache_pages = 20;
    EngineOptions engine_options;
    engine_options.chunk_rows = 32;
    engine_ = std::make_unique<LocalEngine>(settings, engine_options, checkpoint->config(),
                                            checkpoint->is_fp8(), StartThreadRanks(settings, checkpoint, {}));
  }
  void TearDown() override {
    engine_.reset();
    std::filesystem::remove_all(directory_);
  }

  static Request RequestOf(size_t prompt, int64_t max_tokens) {
    Request request;
    for (size_t i = 0; i < prompt; ++i) request.prompt.push_back(static_cast<int32_t>(i * 31 % 300));
    request.max_tokens = max_tokens;
    request.temperature = 0.0F;
    return request;
  }

  std::filesystem::path directory_;
  std::unique_ptr<LocalEngine> engine_;
};

TEST_F(LocalEngineTest, AnswersReportProgressAndEndByLengthOrStopToken) {
  Answer whole;
  engine_->Submit(RequestOf(100, 6), whole.sink());
  EXPECT_EQ(whole.Last().finish, FinishReason::kLength);
  const std::vector<int32_t> tokens = whole.tokens();
  ASSERT_EQ(tokens.size(), 6U);
  EXPECT_GE(whole.progress(), 4) << "four chunks of at most 32 rows";

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
