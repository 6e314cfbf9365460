#include "schedule/scheduler.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "schedule/schedule_test_support.h"

namespace sluice::schedule {
namespace {

TEST(Scheduler, ChunksOfOnePromptFlyTogetherAndTheLastOneSamples) {
  Scheduler scheduler({.chunk_rows = 100, .max_running = 4, .pages = 10, .max_steps_in_flight = 3});
  scheduler.Add(Prompt(7, 250, 2));
  EXPECT_EQ(scheduler.waiting(), 1);
  const std::optional<step::Step> a = scheduler.Next().value();
  const std::optional<step::Step> b = scheduler.Next().value();
  const auto c = scheduler.Next();
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(scheduler.running(), 1);
  EXPECT_EQ(scheduler.steps_in_flight(), 3);
  EXPECT_EQ(scheduler.free_pages(), 10 - 4);  // 252 tokens
  EXPECT_EQ(c->id, 2);
  const step::StepSequence& last = c->sequences.at(0);
  EXPECT_EQ(last.first_position, 200);
  EXPECT_EQ(last.tokens.size(), 50U);
  EXPECT_EQ(last.tokens.front(), 1200);
  EXPECT_EQ(last.pages.size(), 4U);
  EXPECT_EQ(a->sequences.at(0).pages.size(), 2U);
  EXPECT_FALSE(a->sequences.at(0).sample);
  EXPECT_FALSE(b->sequences.at(0).sample);
  EXPECT_TRUE(last.sample);

  EXPECT_FALSE(scheduler.Next());  // three are in flight
  scheduler.Completed(Answer(*a));
  EXPECT_EQ(scheduler.PromptRowsDone(7), 100);
  scheduler.Completed(Answer(*b));
  scheduler.Completed(Answer(*c, 42));
  EXPECT_EQ(scheduler.PromptRowsDone(7), 250);

  const std::optional<step::Step> decode = scheduler.Next().value();
  ASSERT_TRUE(decode);
  EXPECT_EQ(decode->sequences.at(0).first_position, 250);
  EXPECT_EQ(decode->sequences.at(0).tokens, std::vector<int32_t>{42});
  EXPECT_EQ(decode->sequences.at(0).awaits_step, -1);
  EXPECT_TRUE(decode->sequences.at(0).sample);
  EXPECT_FALSE(scheduler.Next());
  scheduler.Completed(Answer(*decode, 43));
  EXPECT_FALSE(scheduler.Next());  // max_tokens are sampled
  EXPECT_EQ(scheduler.running(), 1);
  scheduler.End(7);
  EXPECT_EQ(scheduler.running(), 0);
  EXPECT_EQ(scheduler.free_pages(), 10);
  EXPECT_EQ(scheduler.PromptRowsDone(7), -1);
}

// (sequence, position, the step whose token it awaits or -1) of every decode row, in the step's order.
std::vector<std::tuple<uint64_t, int32_t, int64_t>> Decodes(const step::Step& step) {
  std::vector<std::tuple<uint64_t, int32_t, int64_t>> decodes;
  for (const step::StepSequence& part : step.sequences) {
    EXPECT_EQ(part.awaits_step >= 0, part.tokens == std::vector<int32_t>{step::kAwaitedToken});
    decodes.emplace_back(part.sequence, part.first_position, part.awaits_step);
  }
  return decodes;
}
using Rows = std::vector<std::tuple<uint64_t, int32_t, int64_t>>;

TEST(Scheduler, ADecodeRowGoesOneTokenAhead) {
  Scheduler scheduler({.chunk_rows = 100, .pages = 10});
  scheduler.Add(Prompt(7, 30, 4));
  const auto prompt = scheduler.Next().value();
  const auto second = scheduler.Next().value();
  EXPECT_EQ(Decodes(second), (Rows{{7, 30, 0}}));
  EXPECT_FALSE(scheduler.Next()) << "two tokens ahead";
  scheduler.Completed(Answer(prompt));
  const auto third = scheduler.Next().value();
  EXPECT_EQ(Decodes(third), (Rows{{7, 31, 1}}));
  scheduler.Completed(Answer(second));
  scheduler.Completed(Answer(third, 9));
  const auto fourth = scheduler.Next().value();
  EXPECT_EQ(fourth.sequences.at(0).tokens, std::vector<int32_t>{9});
  EXPECT_FALSE(scheduler.Next()) << "more than max_tokens";
  scheduler.End(7);
  EXPECT_EQ(scheduler.free_pages(), 9);
  scheduler.Completed(Answer(fourth));
  EXPECT_EQ(scheduler.free_pages(), 10);
}

TEST(Scheduler, ATokenByTokenSequenceIsNeverAhead) {
  Scheduler scheduler({.chunk_rows = 100, .max_running = 4, .pages = 10, .max_steps_in_flight = 8});
  NewSequence sequence = Prompt(7, 150, 2);
  sequence.token_by_token = true;
  scheduler.Add(std::move(sequence));
  const auto first = scheduler.Next().value();
  const auto second = scheduler.Next().value();
  EXPECT_TRUE(second.sequences.front().sample);
  EXPECT_FALSE(scheduler.Next());
  scheduler.Completed(Answer(first));
  EXPECT_FALSE(scheduler.Next());
  scheduler.Completed(Answer(second, 42));
  const auto decode = scheduler.Next().value();
  EXPECT_EQ(decode.sequences.front().awaits_step, -1);
  EXPECT_EQ(decode.sequences.front().tokens, std::vector<int32_t>{42});
}

TEST(Scheduler, AnAwaitedTokenDoesNotHoldUpAFullPipe) {
  Scheduler scheduler({.chunk_rows = 100, .pages = 100, .stages = 3});
  scheduler.Add(Prompt(1, 10, 9));
  scheduler.Add(Prompt(2, 1000, 1));
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{1, 10}, {2, 90}}));  // step 0
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{2, 100}}));
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{2, 100}}));
  const auto fourth = scheduler.Next().value();  // three stages after step 0
  EXPECT_EQ(Shares(fourth), (Expected{{1, 1}, {2, 99}}));
  EXPECT_EQ(fourth.sequences.at(0).awaits_step, 0);
  // With nothing else to do it may wait at the first stage as well as here.
  scheduler.End(2);
  scheduler.Completed({0, {{1, true, {}, {}, {}}, {2, false, {}, {}, {}}}});
  EXPECT_EQ(Decodes(scheduler.Next().value()), (Rows{{1, 11, 3}}));
}

TEST(Scheduler, AGroupAwaitsNoTokenOfItsOwn) {
  Scheduler scheduler(
      {.chunk_rows = 100, .pages = 100, .max_steps_in_flight = 4, .stages = 2, .group_steps = 2});
  scheduler.Add(Prompt(1, 150, 9));
  const auto first = scheduler.NextGroup();
  ASSERT_EQ(first.size(), 2U);
  const auto second = scheduler.NextGroup();
  ASSERT_EQ(second.size(), 1U) << "its token is sampled by the first group";
  EXPECT_EQ(Decodes(second.front()), (Rows{{1, 150, 1}}));
  EXPECT_TRUE(scheduler.NextGroup().empty()) << "a whole group does not fit in flight";
  scheduler.Completed(Answer(first[0]));
  EXPECT_TRUE(scheduler.NextGroup().empty()) << "two tokens ahead";
  scheduler.Completed(Answer(first[1]));
  EXPECT_EQ(Decodes(scheduler.NextGroup().at(0)), (Rows{{1, 151, 2}}));
}

TEST(Scheduler, PrefillOnlySamplesNothing) {
  Scheduler scheduler({.chunk_rows = 100, .pages = 4});
  scheduler.Add(Prompt(1, 30, 0));
  const auto step = scheduler.Next();
  ASSERT_TRUE(step);
  EXPECT_FALSE(step->sequences.at(0).sample);
  scheduler.Completed(Answer(*step));
  EXPECT_EQ(scheduler.PromptRowsDone(1), 30);
  EXPECT_FALSE(scheduler.Next());
}

TEST(Scheduler, SharesTheRowsEquallyAndPassesOnWhatIsNotNeeded) {
  Scheduler scheduler({.chunk_rows = 100, .pages = 100});
  scheduler.Add(Prompt(1, 1000, 1));
  scheduler.Add(Prompt(2, 10, 1));
  scheduler.Add(Prompt(3, 1000, 1));
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{1, 45}, {2, 10}, {3, 45}}));
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{3, 50}, {1, 50}}));
}

TEST(Scheduler, DecodesComeFirst) {
  Scheduler scheduler({.chunk_rows = 100, .pages = 100});
  scheduler.Add(Prompt(1, 10, 5));
  scheduler.Completed(Answer(scheduler.Next().value()));
  scheduler.Add(Prompt(2, 1000, 1));
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{1, 1}, {2, 99}}));
}

TEST(Scheduler, TurnsGoRoundWhenAStepIsTooSmallForAll) {
  Scheduler scheduler({.chunk_rows = 2, .pages = 100});
  for (uint64_t id = 1; id <= 3; ++id) scheduler.Add(Prompt(id, 10, 1));
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{1, 1}, {2, 1}}));
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{3, 1}, {2, 1}}));
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{1, 1}, {2, 1}}));
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{3, 1}, {2, 1}}));
}

TEST(Scheduler, AdmitsInOrderOfArrivalEvenWhenALaterOneWouldFit) {
  Scheduler scheduler({.chunk_rows = 1000, .max_running = 2, .pages = 10});
  scheduler.Add(Prompt(1, 400, 0));   // 7 pages
  scheduler.Add(Prompt(2, 200, 56));  // 4 pages
  scheduler.Add(Prompt(3, 10, 0));    // 1 page
  const std::optional<step::Step> first = scheduler.Next().value();
  EXPECT_EQ(Shares(*first), (Expected{{1, 400}}));
  EXPECT_EQ(scheduler.waiting(), 2);
  scheduler.Completed(Answer(*first));
  scheduler.End(1);
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{2, 200}, {3, 10}}));
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{2, 1}}));
  scheduler.Add(Prompt(4, 10, 0));  // fits, but two are running
  EXPECT_FALSE(scheduler.Next());
  EXPECT_EQ(scheduler.waiting(), 1);
}

TEST(Scheduler, PagesOfAnEndedSequenceStayUntilItsStepsHaveCompleted) {
  Scheduler scheduler({.chunk_rows = 64, .pages = 4});
  scheduler.Add(Prompt(1, 250, 1));
  scheduler.Add(Prompt(2, 250, 1));
  const std::optional<step::Step> a = scheduler.Next().value();
  const std::optional<step::Step> b = scheduler.Next().value();
  scheduler.End(1);
  scheduler.End(1);
  EXPECT_EQ(scheduler.free_pages(), 0);
  EXPECT_FALSE(scheduler.Next());
  scheduler.Completed(Answer(*a));
  EXPECT_EQ(scheduler.free_pages(), 0);
  scheduler.Completed(Answer(*b));
  EXPECT_EQ(scheduler.free_pages(), 4);
  EXPECT_EQ(Shares(scheduler.Next().value()), (Expected{{2, 64}}));
}

TEST(Scheduler, EndOfAWaitingOrUnknownSequence) {
  Scheduler scheduler({.chunk_rows = 64, .pages = 4});
  scheduler.Add(Prompt(1, 10, 1));
  scheduler.End(1);
  scheduler.End(99);
  EXPECT_EQ(scheduler.waiting(), 0);
  EXPECT_FALSE(scheduler.Next());
  EXPECT_EQ(scheduler.free_pages(), 4);
}

TEST(Scheduler, PromptLogprobsHaveTargetsAndSmallChunks) {
  Scheduler scheduler({.chunk_rows = 1000, .pages = 100});
  NewSequence sequence = Prompt(1, 300, 2);
  sequence.prompt_logprobs = true;
  sequence.return_logits = true;
  sequence.sampling.seed = 77;
  scheduler.Add(sequence);
  const std::optional<step::Step> first = scheduler.Next().value();
  const std::optional<step::Step> second = scheduler.Next().value();
  const step::StepSequence& a = first->sequences.at(0);
  const step::StepSequence& b = second->sequences.at(0);
  ASSERT_EQ(a.tokens.size(), 256U);
  ASSERT_EQ(a.targets.size(), 256U);
  for (int32_t row = 0; row < 256; ++row) EXPECT_EQ(a.targets[row], 1001 + row);
  ASSERT_EQ(b.targets.size(), 44U);
  EXPECT_EQ(b.targets[42], 1299);
  EXPECT_EQ(b.targets[43], -1);
  EXPECT_TRUE(a.prompt_logprobs && a.return_logits && b.sample);
  EXPECT_EQ(a.sampling.seed, 77U);
  scheduler.Completed(Answer(*first));
  scheduler.Completed(Answer(*second));
  const std::optional<step::Step> decode = scheduler.Next().value();
  EXPECT_FALSE(decode->sequences.at(0).prompt_logprobs);
  EXPECT_TRUE(decode->sequences.at(0).targets.empty());
  EXPECT_TRUE(decode->sequences.at(0).return_logits);
}

TEST(Scheduler, PromptRowsOfAStepHaveALimitOfTheirOwn) {
  Scheduler scheduler(
      {.chunk_rows = 100, .max_running = 4, .pages = 100, .max_steps_in_flight = 8, .prefill_rows = 30});
  scheduler.Add(Prompt(1, 10, 2));
  const auto first = scheduler.Next();
  ASSERT_TRUE(first);
  scheduler.Completed(Answer(*first));
  scheduler.Add(Prompt(2, 70, 1));
  scheduler.Add(Prompt(3, 70, 1));
  // One decode row beside the 30 of the prompts.
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, 1}, {2, 15}, {3, 15}}));
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{2, 15}, {3, 15}}));
}

TEST(Scheduler, ALimitOnPromptRowsDoesNotHoldDecodesBack) {
  Scheduler scheduler(
      {.chunk_rows = 100, .max_running = 4, .pages = 100, .max_steps_in_flight = 8, .prefill_rows = 1});
  scheduler.Add(Prompt(1, 1, 2));
  const auto first = scheduler.Next();
  scheduler.Add(Prompt(2, 5, 1));
  scheduler.Add(Prompt(3, 5, 1));
  scheduler.Completed(Answer(*first));
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, 1}, {2, 1}}));
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{3, 1}}));
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{2, 1}}));
}

TEST(Scheduler, SequencesOfAStepHaveALimitAndTakeTurns) {
  Scheduler scheduler(
      {.chunk_rows = 100, .max_running = 4, .pages = 100, .max_steps_in_flight = 8, .step_sequences = 2});
  for (const uint64_t id : {1, 2, 3}) scheduler.Add(Prompt(id, 120, 1));
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, 50}, {2, 50}}));
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{3, 50}, {2, 50}}));
  EXPECT_EQ(scheduler.running(), 3);
}

TEST(SchedulerPriority, TheLargerIsAdmittedFirstAndTheSmallestIsPreempted) {
  for (const bool low_first : {false, true}) {
    Scheduler scheduler({.chunk_rows = 1000,
                         .max_running = 1,
                         .pages = 10,
                         .by_priority = true,
                         .low_values_first = low_first});
    for (const uint64_t id : {1, 2, 3}) {
      NewSequence sequence = Prompt(id, 10, 0);
      sequence.priority = id == 2 ? 5 : -static_cast<int64_t>(id);
      scheduler.Add(sequence);
    }
    EXPECT_EQ(scheduler.Next()->sequences.at(0).sequence, low_first ? 3U : 2U);
  }
}

TEST(SchedulerProbe, IsInTheNextStepBesideTheLimitsAndBorrowsAPage) {
  Scheduler scheduler({.chunk_rows = 100, .max_running = 1, .pages = 10});
  scheduler.Add(Prompt(1, 640, 0));
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, 100}}));
  EXPECT_EQ(scheduler.free_pages(), 0);
  NewSequence probe = Prompt(2, 1, 1);
  probe.probe = true;
  scheduler.Add(probe);
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{2, 1}, {1, 99}}));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, i < 3 ? 100 : 77}})) << i;
  EXPECT_FALSE(scheduler.Next()) << "the last page is lent";
  scheduler.End(2);
  scheduler.Completed({0, {{1, false, {}, {}, {}}}});
  EXPECT_FALSE(scheduler.Next());
  scheduler.Completed({1, {{2, true, {}, {}, {}}, {1, false, {}, {}, {}}}});
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, 64}}));
}

}  // namespace
}  // namespace sluice::schedule
