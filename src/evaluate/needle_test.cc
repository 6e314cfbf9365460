#include "evaluate/needle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "base/error.h"
#include "evaluate/interval.h"
#include "evaluate/progress.h"

namespace sluice::evaluate {
namespace {

using Ids = std::vector<int32_t>;

TEST(NeedlePrompt, HasTheAskedLengthAndANeedleAtEveryDepth) {
  Ids hay(1000);
  std::iota(hay.begin(), hay.end(), 1000);
  const std::vector<Ids> needles = {{1, 1}, {2}, {}, {4, 4, 4}, {5}};
  const Ids prompt = NeedlePrompt(hay, needles, {9, 9, 9}, 810);
  ASSERT_EQ(prompt.size(), 810);
  // 810 less 7 of needles and 3 of the question leave 800 straws: needles behind 0, 200, 400, 600, 800 of
  // them.
  EXPECT_EQ(prompt[0], 1);
  EXPECT_EQ(prompt[202], 2);
  EXPECT_EQ(prompt[603], 4);
  EXPECT_EQ(prompt[806], 5);
  EXPECT_EQ((Ids{prompt.end() - 3, prompt.end()}), (Ids{9, 9, 9}));
  Ids straws;
  std::ranges::copy_if(prompt, std::back_inserter(straws), [](int32_t id) { return id >= 1000; });
  EXPECT_EQ(straws, Ids(hay.begin(), hay.begin() + 800));
  EXPECT_EQ(NeedlePrompt(hay, {{1}}, {9}, 3), (Ids{1, 1000, 9}));
  EXPECT_THROW(NeedlePrompt(hay, needles, {9, 9, 9}, 9), Error);
}

TEST(Haystack, NeedlesDifferAndHayHasNoneOfThem) {
  const std::string hay = MakeHay(20000, 3);
  EXPECT_GE(hay.size(), 20000);
  EXPECT_EQ(hay.find_first_of("0123456789="), std::string::npos);
  for (const NeedleStyle style : {NeedleStyle::kProse, NeedleStyle::kRecall}) {
    const auto needles = MakeNeedles(style, kMostNeedles, 5);
    std::set<std::string> facts, answers;
    for (const Needle& needle : needles) {
      facts.insert(needle.fact);
      answers.insert(needle.answer);
      EXPECT_THAT(needle.fact, testing::HasSubstr(needle.answer));
      EXPECT_TRUE(IsFound(style, needle, " " + needle.answer + "."));
      EXPECT_FALSE(IsFound(style, needle, needle.answer + "0"));
      EXPECT_FALSE(IsFound(style, needle, ""));
    }
    EXPECT_EQ(facts.size(), kMostNeedles);
    EXPECT_EQ(answers.size(), kMostNeedles);
  }
}

// Values computed apart, in Python.
TEST(WilsonInterval, HasTheClosedFormsValues) {
  EXPECT_NEAR(WilsonInterval(0, 10).high, 0.2775, 1e-4);
  EXPECT_EQ(WilsonInterval(0, 10).low, 0);
  EXPECT_NEAR(WilsonInterval(8, 10).low, 0.4902, 1e-4);
  EXPECT_NEAR(WilsonInterval(8, 10).high, 0.9433, 1e-4);
  EXPECT_NEAR(WilsonInterval(10, 10).low, 0.7225, 1e-4);
  EXPECT_EQ(WilsonInterval(10, 10).high, 1);
}

TEST(ProgressLine, SaysShareTimeAndRate) {
  EXPECT_EQ(ProgressLine("gsm8k", 488, 1319, 130),
            "gsm8k:  36%|███████             | 488/1319 [02:10<03:41, 3.75it/s]");
  EXPECT_EQ(ProgressLine("x", 0, 8, 1e-9), "x:   0%|                    | 0/8 [00:00<?, 0.00it/s]");
}

}  // namespace
}  // namespace sluice::evaluate
