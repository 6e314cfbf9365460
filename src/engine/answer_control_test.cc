#include "engine/answer_control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "text/grammar_test_support.h"

namespace sluice::engine {
namespace {

constexpr int64_t kVocabulary = text::GrammarWorld::kVocabulary;
constexpr float kNever = -std::numeric_limits<float>::infinity();
using Biases = std::vector<ops::TokenBias>;

bool Allows(const ops::LogitAdjust& adjust, int32_t token) {
  return (adjust.allowed.at(static_cast<size_t>(token) / 32) >> (token % 32) & 1U) != 0;
}

TEST(AnswerControl, APlainRequestNeedsNone) {
  Request request;
  request.min_p = 0.5F;
  request.stop_token_ids = {1};
  EXPECT_EQ(AnswerControl::Of(request, kVocabulary), nullptr);
}

TEST(AnswerControl, PenaltiesCountTheAnswerAndRepetitionThePromptToo) {
  Request request;
  request.prompt = {9, 3, 9};
  request.frequency_penalty = 0.5F;
  request.presence_penalty = 0.25F;
  request.repetition_penalty = 1.5F;
  request.logit_bias = {{7, 2.0F}, {4, -100.0F}};
  const auto control = AnswerControl::Of(request, kVocabulary);
  EXPECT_TRUE(control->token_by_token());
  const ops::LogitAdjust first = control->AdjustFor(0);
  EXPECT_EQ(first.repetition_penalty, 1.5F);
  EXPECT_EQ(first.repeated, (std::vector<int32_t>{3, 9}));
  EXPECT_EQ(first.biases, (Biases{{4, -100.0F}, {7, 2.0F}})) << "penalties of the answer only";
  for (const int32_t token : {7, 5, 7}) EXPECT_EQ(control->Accept(token), AnswerControl::Next::kAnyToken);
  const ops::LogitAdjust later = control->AdjustFor(3);
  EXPECT_EQ(later.repeated, (std::vector<int32_t>{3, 5, 7, 9}));
  EXPECT_EQ(later.biases, (Biases{{4, -100.0F}, {5, -0.75F}, {7, 2.0F - 1.25F}}));
  EXPECT_THROW(control->AdjustFor(2), Error) << "a row whose tokens have not all come back";
}

TEST(AnswerControl, StopTokensAreBarredUntilMinTokens) {
  Request request;
  request.stop_token_ids = {1, 8, -5, 100'000};
  request.min_tokens = 2;
  request.logit_bias = {{8, 5.0F}};
  const auto control = AnswerControl::Of(request, kVocabulary);
  EXPECT_FALSE(control->token_by_token()) << "the place of the row is enough";
  EXPECT_EQ(control->AdjustFor(0).biases, (Biases{{1, kNever}, {8, kNever}}));
  EXPECT_EQ(control->AdjustFor(1).biases, (Biases{{1, kNever}, {8, kNever}}));
  EXPECT_EQ(control->AdjustFor(2).biases, (Biases{{8, 5.0F}}));
}

TEST(AnswerControl, AGrammarAllowsTheStopTokensWhereItMayEnd) {
  text::GrammarWorld world;
  Request request;
  request.stop_token_ids = {1};
  request.grammar = world.compiler().Regex("ab?");
  const auto control = AnswerControl::Of(request, kVocabulary);
  const int32_t a = text::GrammarWorld::ByteToken('a');
  const int32_t b = text::GrammarWorld::ByteToken('b');
  EXPECT_TRUE(Allows(control->AdjustFor(0), a));
  EXPECT_FALSE(Allows(control->AdjustFor(0), b));
  EXPECT_FALSE(Allows(control->AdjustFor(0), 1));
  EXPECT_EQ(control->Accept(a), AnswerControl::Next::kAnyToken);
  EXPECT_TRUE(Allows(control->AdjustFor(1), b));
  EXPECT_TRUE(Allows(control->AdjustFor(1), 1));
  EXPECT_EQ(control->Accept(b), AnswerControl::Next::kEnd);
}

TEST(AnswerControl, BehindThinkingTheGrammarBeginsAndNothingEndsBefore) {
  text::GrammarWorld world;
  Request request;
  request.stop_token_ids = {1};
  request.grammar = world.compiler().Regex("a");
  request.grammar_after = 5;  // </think>
  const auto control = AnswerControl::Of(request, kVocabulary);
  EXPECT_TRUE(control->AdjustFor(0).allowed.empty());
  EXPECT_EQ(control->AdjustFor(0).biases, (Biases{{1, kNever}}));
  EXPECT_EQ(control->Accept(40), AnswerControl::Next::kAnyToken);
  EXPECT_TRUE(control->AdjustFor(1).allowed.empty());
  EXPECT_EQ(control->Accept(5), AnswerControl::Next::kAnyToken);
  EXPECT_TRUE(Allows(control->AdjustFor(2), text::GrammarWorld::ByteToken('a')));
  EXPECT_FALSE(Allows(control->AdjustFor(2), 40));
  EXPECT_TRUE(control->AdjustFor(2).biases.empty());
  EXPECT_EQ(control->Accept(text::GrammarWorld::ByteToken('a')), AnswerControl::Next::kEnd);
}

TEST(AnswerControl, NumbersOutsideTheirRangesAreRefused) {
  const auto refused = [](auto change) {
    Request request;
    change(request);
    return text::Refusal(ErrorKind::kBadRequest, [&] { AnswerControl::Of(request, kVocabulary); });
  };
  using testing::HasSubstr;
  EXPECT_THAT(refused([](Request& r) { r.frequency_penalty = 2.5F; }), HasSubstr("frequency_penalty is 2.5"));
  EXPECT_THAT(refused([](Request& r) { r.presence_penalty = -3.0F; }), HasSubstr("presence_penalty is -3"));
  EXPECT_THAT(refused([](Request& r) { r.repetition_penalty = 0.0F; }), HasSubstr("repetition_penalty is 0"));
  EXPECT_THAT(refused([](Request& r) { r.repetition_penalty = std::nanf(""); }), HasSubstr("must be from"));
  EXPECT_THAT(refused([](Request& r) { r.min_p = 1.5F; }), HasSubstr("min_p is 1.5"));
  EXPECT_THAT(refused([](Request& r) { r.logit_bias = {{3, 101.0F}}; }), HasSubstr("logit_bias is 101"));
  EXPECT_THAT(refused([](Request& r) {
                r.logit_bias = {{600, 1.0F}};
              }),
              HasSubstr("outside the vocabulary of 600"));
  EXPECT_THAT(refused([](Request& r) { r.min_tokens = 17; }), HasSubstr("from 0 to max_tokens, which is 16"));
  text::GrammarWorld world;
  EXPECT_THAT(refused([&](Request& r) { r.grammar = world.compiler().Regex(""); }),
              HasSubstr("allows no text"));
}

}  // namespace
}  // namespace sluice::engine
