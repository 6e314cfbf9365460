// What requests find in the cache, what they lose to others, and that neither changes a bit of an answer:
// each is compared with an engine that keeps no prefix and has nothing else to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/small_engine.h"

namespace sluice::engine {
namespace {

class SharedPrefixTest : public SmallEngineTest {
 protected:
  struct Expected {
    std::vector<int32_t> tokens;
    std::vector<uint32_t> bits;
  };
  Expected Cold(const Request& request) {
    const auto cold = Start({.chunk_rows = 10000, .keeps_prefixes = false});
    Answer answer;
    cold->Submit(request, answer.sink());
    answer.Last();
    EXPECT_EQ(answer.cached(), 0);
    return {answer.tokens(), answer.bits()};
  }
  // The engine's answer is the cold one's; returns how much of the prompt was cached.
  int64_t CachedOf(const Request& request) {
    const Expected expected = Cold(request);
    Answer answer;
    engine_->Submit(request, answer.sink());
    EXPECT_EQ(answer.Last().finish, FinishReason::kLength);
    EXPECT_EQ(answer.tokens(), expected.tokens);
    EXPECT_EQ(answer.bits(), expected.bits) << "log-probabilities differ in bits";
    EXPECT_EQ(answer.progress().front(), answer.cached());
    EXPECT_EQ(answer.Last().cached_tokens, answer.cached());
    return answer.cached();
  }
};

TEST_F(SharedPrefixTest, ARetryFindsTheChunksOfTheClientThatLeft) {
  Answer left;
  const RequestId id = engine_->Submit(RequestOf(1000, 3), left.sink());
  left.AwaitProgress(200);
  engine_->Abort(id);
  EXPECT_EQ(left.Last().finish, FinishReason::kAbort);
  const int64_t done = left.progress().back();
  const int64_t cached = CachedOf(RequestOf(1000, 3));
  EXPECT_GE(cached, done / 64 * 64);
  EXPECT_LT(cached, 1000);
}

TEST_F(SharedPrefixTest, PagesWrittenByDecodeAreFoundLikeThoseOfAPrompt) {
  Request first = RequestOf(50, 200);
  first.temperature = 1.0F;
  first.seed = 7;
  Answer answer;
  engine_->Submit(first, answer.sink());
  answer.Last();
  Request next = first;
  const std::vector<int32_t> tokens = answer.tokens();
  next.prompt.insert(next.prompt.end(), tokens.begin(), tokens.end());
  next.prompt.insert(next.prompt.end(), 20, 5);
  next.max_tokens = 5;
  EXPECT_EQ(CachedOf(next), 192) << "of 249 positions that the first has written";
}

TEST_F(SharedPrefixTest, AWarmedPromptLeavesOneRow) {
  EXPECT_EQ(CachedOf(RequestOf(256, 0)), 0);
  EXPECT_EQ(CachedOf(RequestOf(256, 4)), 192);
  EXPECT_EQ(CachedOf(RequestOf(257, 4)), 256);
  EXPECT_GT(engine_->Load().cached_tokens, 0);
}

TEST_F(SharedPrefixTest, PromptLogprobsAndOtherSaltsFindNothing) {
  Request request = RequestOf(200, 3);
  EXPECT_EQ(CachedOf(request), 0);
  EXPECT_EQ(CachedOf(request), 192);
  request.prompt_logprobs = true;
  EXPECT_EQ(CachedOf(request), 0);
  request.prompt_logprobs = false;
  request.cache_salt = "mine";
  EXPECT_EQ(CachedOf(request), 0);
  EXPECT_EQ(CachedOf(request), 192);
}

TEST_F(SharedPrefixTest, TwoChoicesOfAPromptComputeItOnce) {
  Request first = RequestOf(500, 8);
  first.temperature = 1.0F;
  first.seed = 1;
  Request second = first;
  second.seed = 2;
  const Expected expected[] = {Cold(first), Cold(second)};
  const auto rows = [&] {
    int64_t sum = 0;
    for (const RankInfo& rank : engine_->Ranks()) sum += rank.stage == 0 ? rank.rows_computed : 0;
    return sum;
  };
  const int64_t before = rows();
  Answer answers[2];
  engine_->Submit(first, answers[0].sink());
  engine_->Submit(second, answers[1].sink());
  for (int i = 0; i < 2; ++i) {
    answers[i].Last();
    EXPECT_EQ(answers[i].tokens(), expected[i].tokens);
    EXPECT_EQ(answers[i].bits(), expected[i].bits);
  }
  EXPECT_NE(answers[0].tokens(), answers[1].tokens());
  EXPECT_EQ(answers[1].cached(), 448);
  EXPECT_EQ(rows() - before, 500 + 52 + 2 * 7);
}

TEST_F(SharedPrefixTest, WhoLosesItsPagesGoesOnWithTheSameBits) {
  Request requests[3];
  Expected expected[3];
  for (int i = 0; i < 3; ++i) {
    requests[i] = RequestOf(200, 350);
    requests[i].prompt[0] = i;
    requests[i].temperature = i == 0 ? 0.0F : 1.0F;
    requests[i].seed = static_cast<uint64_t>(i);
    expected[i] = Cold(requests[i]);
  }
  Answer answers[3];
  for (int i = 0; i < 3; ++i) engine_->Submit(requests[i], answers[i].sink());
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(answers[i].Last().finish, FinishReason::kLength);
    EXPECT_EQ(answers[i].tokens(), expected[i].tokens) << i;
    EXPECT_EQ(answers[i].bits(), expected[i].bits) << i;
    EXPECT_EQ(answers[i].cached(), 0);
  }
  EXPECT_GT(engine_->Load().preempted, 0) << "1,650 tokens in a cache of 1,280";
}

TEST_F(SharedPrefixTest, AFlushForgetsUnlessARequestRuns) {
  EXPECT_EQ(CachedOf(RequestOf(256, 0)), 0);
  Answer running;
  const RequestId id = engine_->Submit(RequestOf(600, 600), running.sink());
  running.AwaitTokens(1);
  EXPECT_FALSE(engine_->FlushCache());
  engine_->Abort(id);
  running.Last();
  const auto deadline = Clock::now() + std::chrono::seconds(30);
  while (!engine_->FlushCache() && Clock::now() < deadline) continue;  // its last steps are under way
  EXPECT_EQ(engine_->Load().cached_tokens, 0);
  EXPECT_EQ(engine_->Load().used_tokens, 0);
  EXPECT_EQ(CachedOf(RequestOf(256, 0)), 0);
}

}  // namespace
}  // namespace sluice::engine
