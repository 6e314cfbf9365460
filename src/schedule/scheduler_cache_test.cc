#include <gtest/gtest.h>

#include "schedule/schedule_test_support.h"

// Which pages the scheduler takes, keeps and finds again.
namespace sluice::schedule {
namespace {

TEST(SchedulerPrefixes, AFinishedPromptIsFoundAgainInFullPagesAndOneRowIsLeft) {
  Scheduler scheduler({.chunk_rows = 1000, .pages = 20, .keeps_prefixes = true});
  scheduler.Add(Prompt(1, 256, 0));
  RunAll(scheduler);
  EXPECT_EQ(scheduler.PromptRowsDone(1), 256);
  EXPECT_EQ(scheduler.CachedTokens(1), 0);
  scheduler.End(1);
  EXPECT_EQ(scheduler.cached_pages(), 4);
  scheduler.Add(Prompt(2, 256, 1));
  const auto step = scheduler.Next();
  EXPECT_EQ(step->sequences.at(0).first_position, 192) << "256 would leave no row to compute";
  EXPECT_EQ(Shares(*step), (Expected{{2, 64}}));
  EXPECT_EQ(scheduler.CachedTokens(2), 192);
  EXPECT_EQ(scheduler.PromptRowsDone(2), 192);
  scheduler.Add(Prompt(3, 300, 1));
  EXPECT_EQ(scheduler.Next()->sequences.at(0).first_position, 256);
}

TEST(SchedulerPrefixes, WhoLeavesInTheMiddleFindsItsChunksAgain) {
  Scheduler scheduler({.chunk_rows = 100, .pages = 20, .max_steps_in_flight = 2, .keeps_prefixes = true});
  scheduler.Add(Prompt(1, 1000, 5));
  const auto first = scheduler.Next();
  const auto second = scheduler.Next();
  scheduler.End(1);
  scheduler.Completed(Answer(*first));
  scheduler.Completed(Answer(*second));
  scheduler.Add(Prompt(2, 1000, 5));
  EXPECT_EQ(scheduler.Next()->sequences.at(0).first_position, 192) << "of 200 rows";
}

TEST(SchedulerPrefixes, TwoOfTheSamePromptComputeItOnce) {
  Scheduler scheduler({.chunk_rows = 100, .pages = 50, .keeps_prefixes = true});
  scheduler.Add(Prompt(1, 300, 3));
  scheduler.Add(Prompt(2, 300, 3));
  scheduler.Add(Prompt(3, 10, 1));  // begins alike, but not for a page
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, 90}, {3, 10}}));
  EXPECT_EQ(scheduler.waiting(), 1) << "the second waits for the first";
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, 100}}));
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, 100}}));
  // 290 rows are published: all the pages they share.
  const auto fourth = scheduler.Next();
  EXPECT_EQ(Shares(*fourth), (Expected{{1, 10}, {2, 44}}));
  EXPECT_EQ(fourth->sequences.at(1).first_position, 256);
  EXPECT_EQ(scheduler.CachedTokens(2), 256);
}

TEST(SchedulerPrefixes, WhoWaitedForOneThatLeavesComputesTheRest) {
  Scheduler scheduler({.chunk_rows = 100, .pages = 50, .keeps_prefixes = true});
  scheduler.Add(Prompt(1, 1000, 3));
  scheduler.Add(Prompt(2, 1000, 3));
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, 100}}));
  scheduler.End(1);
  EXPECT_EQ(scheduler.Next()->sequences.at(0).first_position, 64);
}

TEST(SchedulerPrefixes, AnswersAreFoundTooAndPromptLogprobsTakeNothing) {
  Scheduler scheduler({.chunk_rows = 1000, .pages = 20, .keeps_prefixes = true});
  NewSequence first = Prompt(1, 60, 100);
  scheduler.Add(first);
  RunAll(scheduler);
  scheduler.End(1);
  NewSequence next = Prompt(2, 60, 1);
  next.prompt.insert(next.prompt.end(), 100, 5);  // what Answer says
  scheduler.Add(next);
  EXPECT_EQ(scheduler.Next()->sequences.at(0).first_position, 128);
  next.id = 3;
  next.prompt_logprobs = true;
  scheduler.Add(next);
  EXPECT_EQ(scheduler.Next()->sequences.at(0).first_position, 0);
  next.id = 4;
  next.prompt_logprobs = false;
  next.cache_salt = "another";
  scheduler.Add(next);
  EXPECT_EQ(scheduler.Next()->sequences.at(0).first_position, 0);
}

TEST(SchedulerPrefixes, TheLastTokenOfAnAnswerHasNoRow) {
  Scheduler scheduler({.chunk_rows = 1000, .pages = 20, .keeps_prefixes = true});
  scheduler.Add(Prompt(1, 60, 4));
  RunAll(scheduler);
  scheduler.End(1);
  EXPECT_EQ(scheduler.cached_pages(), 0) << "63 rows are computed";
  NewSequence next = Prompt(2, 60, 1);
  next.prompt.insert(next.prompt.end(), 10, 5);
  scheduler.Add(next);
  EXPECT_EQ(scheduler.Next()->sequences.at(0).first_position, 0);
}

TEST(SchedulerPrefixes, NobodyWaitsForAnotherSalt) {
  Scheduler scheduler({.chunk_rows = 100, .pages = 50, .keeps_prefixes = true});
  scheduler.Add(Prompt(1, 300, 3));
  NewSequence salted = Prompt(2, 300, 3);
  salted.cache_salt = "mine";
  scheduler.Add(salted);
  EXPECT_EQ(Shares(*scheduler.Next()), (Expected{{1, 50}, {2, 50}}));
}

TEST(SchedulerPages, AnAnswerTakesPagesAsItGrowsAndTheLastToComeIsPreempted) {
  // Ten pages: two prompts of two pages and answers of up to eight.
  Scheduler scheduler({.chunk_rows = 1000, .pages = 10, .max_steps_in_flight = 1, .keeps_prefixes = true});
  NewSequence second = Prompt(2, 100, 400);
  second.prompt[0] = 7;
  scheduler.Add(Prompt(1, 100, 400));
  scheduler.Add(second);
  scheduler.Completed(Answer(*scheduler.Next()));
  EXPECT_EQ(scheduler.running(), 2) << "their answers are not reserved";
  EXPECT_EQ(scheduler.free_pages(), 6);
  int64_t steps = 0;
  for (; scheduler.preemptions() == 0; ++steps) scheduler.Completed(Answer(*scheduler.Next()));
  EXPECT_EQ(steps, 5 * 64 - 100) << "each has five pages";
  EXPECT_TRUE(scheduler.IsRunning(1));
  EXPECT_FALSE(scheduler.IsRunning(2));
  EXPECT_EQ(scheduler.waiting(), 1);
  EXPECT_GE(scheduler.cached_pages(), 3) << "what the second has computed stays while there is room";
  while (scheduler.running() == 1) {
    const auto step = scheduler.Next();
    if (!step) break;
    scheduler.Completed(Answer(*step));
  }
  scheduler.End(1);
  // It goes on where it was, behind what is still there.
  const auto resumed = scheduler.Next();
  ASSERT_TRUE(resumed);
  const step::StepSequence& part = resumed->sequences.at(0);
  EXPECT_EQ(part.sequence, 2U);
  EXPECT_EQ(part.first_position + std::ssize(part.tokens), 100 + 220);
  EXPECT_GT(part.first_position, 0);
  EXPECT_TRUE(part.sample);
  EXPECT_EQ(scheduler.CachedTokens(2), 0) << "what was cached of its prompt when it came";
}

}  // namespace
}  // namespace sluice::schedule
