#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "base/error.h"
#include "schedule/schedule_test_support.h"
#include "schedule/scheduler.h"

namespace sluice::schedule {
namespace {

void ExpectError(ErrorKind kind, const std::string& sentence, const std::function<void()>& act) {
  try {
    act();
    ADD_FAILURE() << "no error: " << sentence;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    EXPECT_EQ(error.what(), sentence);
  }
}

TEST(SchedulerRefuses, LimitsBelowOne) {
  const auto make = [](Limits limits) { return [limits] { Scheduler scheduler(limits); }; };
  ExpectError(ErrorKind::kUsage, "--chunked-prefill-size is 0; it must be at least 1",
              make({.chunk_rows = 0, .pages = 1}));
  ExpectError(ErrorKind::kUsage, "--max-running-requests is -2; it must be at least 1",
              make({.max_running = -2, .pages = 1}));
  ExpectError(ErrorKind::kUsage, "the number of cache pages is 0; it must be at least 1", make({.pages = 0}));
  ExpectError(ErrorKind::kUsage, "the number of cache pages is 2147483648; it must be at most 2147483647",
              make({.pages = int64_t{1} << 31}));
  ExpectError(ErrorKind::kUsage, "the number of steps in flight is 0; it must be at least 1",
              make({.pages = 1, .max_steps_in_flight = 0}));
}

TEST(SchedulerRefuses, SequencesThatCouldNeverRun) {
  Scheduler scheduler({.pages = 2});
  const auto add = [&](int32_t prompt, int64_t max_tokens) {
    return [&scheduler, prompt, max_tokens] { scheduler.Add(Prompt(1, prompt, max_tokens)); };
  };
  ExpectError(ErrorKind::kBadRequest, "the prompt is empty: at least one token is needed", add(0, 1));
  ExpectError(ErrorKind::kBadRequest, "max_tokens is -1; it must be at least 0", add(1, -1));
  ExpectError(
      ErrorKind::kBadRequest,
      "the prompt has 100 tokens and max_tokens asks for 29 more, and the cache holds 128 in all: shorten "
      "the prompt or lower max_tokens",
      add(100, 29));
  EXPECT_THROW(add(1, std::numeric_limits<int64_t>::max())(), Error);
  EXPECT_EQ(scheduler.waiting(), 0);
  add(100, 28)();
  EXPECT_EQ(scheduler.waiting(), 1);
  EXPECT_THROW(add(1, 1)(), Error);  // the id is taken
}

TEST(SchedulerRefuses, AnswersOutOfTurnAndKeepsItsState) {
  Scheduler scheduler({.chunk_rows = 20, .pages = 10});
  scheduler.Add(Prompt(1, 30, 1));
  ExpectError(ErrorKind::kRankLost, "the last stage answered step 0 out of turn: no step is under way",
              [&] { scheduler.Completed({}); });
  const std::optional<step::Step> a = scheduler.Next().value();
  const std::optional<step::Step> b = scheduler.Next().value();
  ExpectError(ErrorKind::kRankLost,
              "the last stage answered step 1 out of turn: step 0 is the next to be answered",
              [&] { scheduler.Completed(Answer(*b)); });
  step::StepResult none;
  ExpectError(ErrorKind::kRankLost, "the last stage answered 0 sequences of step 0, which has 1",
              [&] { scheduler.Completed(none); });
  step::StepResult wrong = Answer(*a);
  wrong.sequences[0].sampled = true;
  ExpectError(
      ErrorKind::kRankLost,
      "the last stage answered entry 0 of step 0 with sequence 1 sampled, it is sequence 1 not to be sampled",
      [&] { scheduler.Completed(wrong); });
  EXPECT_EQ(scheduler.PromptRowsDone(1), 0);
  EXPECT_EQ(scheduler.steps_in_flight(), 2);
  scheduler.Completed(Answer(*a));
  scheduler.Completed(Answer(*b));
  EXPECT_EQ(scheduler.PromptRowsDone(1), 30);
}

}  // namespace
}  // namespace sluice::schedule
