#include "bench/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

namespace sluice::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<int32_t>& IdsOf(const LoadRequest& request) {
  return std::get<std::vector<int32_t>>(request.prompt);
}

TEST(RandomIds, CountUpBelowTheVocabularyAndAreTheSeeds) {
  const RandomLoad load{50, 100, 20, 0.25};
  const Workload workload = RandomIds(load, 64, 3);
  ASSERT_EQ(workload.size(), 50U);
  std::set<int64_t> lengths;
  std::set<int32_t> starts;
  for (const LoadRequest& request : workload) {
    const auto& ids = IdsOf(request);
    EXPECT_EQ(static_cast<int64_t>(ids.size()), request.prompt_tokens);
    EXPECT_GE(request.prompt_tokens, 25);
    EXPECT_LE(request.prompt_tokens, 100);
    EXPECT_GE(request.output_tokens, 5);
    EXPECT_LE(request.output_tokens, 20);
    for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(ids[i], (ids[0] + static_cast<int32_t>(i)) % 64);
    lengths.insert(request.prompt_tokens);
    starts.insert(ids[0]);
  }
  EXPECT_GT(lengths.size(), 20U);
  EXPECT_GT(starts.size(), 20U);
  EXPECT_EQ(IdsOf(RandomIds(load, 64, 3)[7]), IdsOf(workload[7]));
  EXPECT_NE(IdsOf(RandomIds(load, 64, 4)[7]), IdsOf(workload[7]));
}

TEST(RandomIds, ARatioOfOneIsTheFullLengthAndOneOfZeroAtLeastOne) {
  for (const LoadRequest& request : RandomIds({20, 96, 8, 1.0}, 512, 1)) {
    EXPECT_EQ(request.prompt_tokens, 96);
    EXPECT_EQ(request.output_tokens, 8);
  }
  for (const LoadRequest& request : RandomIds({20, 2, 1, 0.0}, 512, 1)) EXPECT_GE(request.prompt_tokens, 1);
}

TEST(SharedPrefixes, AreTheGroupsAndShuffledUnlessOrdered) {
  SharedPrefixLoad load{3, 4, 32, 8, 5, true};
  const Workload ordered = SharedPrefixes(load, 50000, 9);
  ASSERT_EQ(ordered.size(), 12U);
  const auto prefix = [](const LoadRequest& request) {
    return std::vector<int32_t>(IdsOf(request).begin(), IdsOf(request).begin() + 32);
  };
  for (size_t i = 0; i < ordered.size(); ++i) {
    EXPECT_EQ(ordered[i].prompt_tokens, 40);
    EXPECT_EQ(ordered[i].output_tokens, 5);
    EXPECT_EQ(prefix(ordered[i]), prefix(ordered[i / 4 * 4])) << i;
    if (i % 4 == 0 && i > 0) {
      EXPECT_NE(prefix(ordered[i]), prefix(ordered[i - 1]));
    }
  }
  load.ordered = false;
  const Workload shuffled = SharedPrefixes(load, 50000, 9);
  std::multiset<std::vector<int32_t>> before, after;
  bool moved = false;
  for (size_t i = 0; i < ordered.size(); ++i) {
    before.insert(IdsOf(ordered[i]));
    after.insert(IdsOf(shuffled[i]));
    moved = moved || IdsOf(ordered[i]) != IdsOf(shuffled[i]);
  }
  EXPECT_EQ(before, after);
  EXPECT_TRUE(moved);
}

// Exponential gaps: mean 1 / rate and the share exp(-1) of them above it.
TEST(SpreadAsPoisson, HasExponentialGaps) {
  Workload workload(20001);
  SpreadAsPoisson(workload, 8.0, 5);
  EXPECT_EQ(workload[0].at_seconds, 0.0);
  int above = 0;
  for (size_t i = 1; i < workload.size(); ++i) {
    const double gap = workload[i].at_seconds - workload[i - 1].at_seconds;
    EXPECT_GE(gap, 0.0);
    above += gap > 1.0 / 8.0;
  }
  EXPECT_NEAR(workload.back().at_seconds / 20000.0, 1.0 / 8.0, 0.005);
  EXPECT_NEAR(above / 20000.0, std::exp(-1.0), 0.02);
  SpreadAsPoisson(workload, std::numeric_limits<double>::infinity(), 5);
}

TEST(SpreadAsPoisson, AtAnInfiniteRateSendsAllAtOnce) {
  Workload workload(5);
  SpreadAsPoisson(workload, std::numeric_limits<double>::infinity(), 5);
  for (const LoadRequest& request : workload) EXPECT_EQ(request.at_seconds, 0.0);
}

class Trace : public testing::Test {
 protected:
  TraceFile Read(const std::string& text, const TraceOptions& options = {}) {
    std::ofstream(path_) << text;
    return ReadTrace(path_, options, 1000, 11);
  }
  ~Trace() override { std::filesystem::remove(path_); }

  const std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / ("trace_" + std::to_string(::getpid()) + ".jsonl");
};

TEST_F(Trace, IsSentByItsTimes) {
  const std::string text =
      "{\"timestamp\": 5000, \"input_length\": 7, \"output_length\": 2}\n\n"
      "{\"timestamp\": 3000, \"prompt\": \"a text\", \"output_length\": 3}\n"
      "{\"timestamp\": 4500, \"prompt\": [1, 2, 999], \"output_length\": 4}\n";
  const TraceFile timed = Read(text, {100, true, 2.0});
  EXPECT_TRUE(timed.bad_lines.empty());
  ASSERT_EQ(timed.requests.size(), 3U);
  EXPECT_EQ(timed.requests[0].at_seconds, 0.0);
  EXPECT_EQ(timed.requests[1].at_seconds, 3.0);
  EXPECT_EQ(timed.requests[2].at_seconds, 4.0);
  EXPECT_EQ(std::get<std::string>(timed.requests[0].prompt), "a text");
  EXPECT_THAT(IdsOf(timed.requests[1]), ElementsAre(1, 2, 999));
  EXPECT_EQ(timed.requests[2].prompt_tokens, 7);
  EXPECT_EQ(timed.requests[2].output_tokens, 2);
  for (const LoadRequest& request : Read(text).requests) EXPECT_EQ(request.at_seconds, 0.0);
  EXPECT_EQ(Read(text, {2, false, 1.0}).requests.size(), 2U);
}

TEST_F(Trace, SharesTheBlocksWithEqualHashes) {
  const TraceFile trace = Read(
      "{\"input_length\": 1300, \"output_length\": 1, \"hash_ids\": [4, 5, 6]}\n"
      "{\"input_length\": 1100, \"output_length\": 1, \"hash_ids\": [4, 5, 7]}\n"
      "{\"input_length\": 600, \"output_length\": 1, \"hash_ids\": [4]}\n"
      "{\"input_length\": 600, \"output_length\": 1, \"hash_ids\": [4]}\n");
  ASSERT_EQ(trace.requests.size(), 4U);
  const auto alike = [&](size_t a, size_t b) {
    const auto& left = IdsOf(trace.requests[a]);
    const auto& right = IdsOf(trace.requests[b]);
    return std::mismatch(left.begin(), left.end(), right.begin(), right.end()).first - left.begin();
  };
  EXPECT_EQ(alike(0, 1), 1024);
  EXPECT_EQ(alike(0, 2), 512);
  EXPECT_EQ(alike(2, 3), 512) << "what no hash names is a request's own";
}

TEST_F(Trace, NamesItsBadLines) {
  const TraceFile trace = Read(
      "{\"input_length\": 5, \"output_length\": 1}\n"
      "{\"input_length\": 5}\n"
      "not JSON\n"
      "[1]\n"
      "{\"input_length\": 0, \"output_length\": 1}\n"
      "{\"input_length\": 1.5, \"output_length\": 1}\n"
      "{\"prompt\": [1, 1000], \"output_length\": 1}\n"
      "{\"prompt\": [], \"output_length\": 1}\n"
      "{\"input_length\": 5, \"output_length\": 1, \"hash_ids\": [\"x\"]}\n"
      "{\"input_length\": 5, \"output_length\": 1, \"timestamp\": \"now\"}\n");
  EXPECT_EQ(trace.requests.size(), 1U);
  const std::string at = path_.string();
  EXPECT_THAT(trace.bad_lines,
              ElementsAre(at + ":2: output_length is not there", at + ":3: it is not JSON",
                          at + ":4: it is no JSON object",
                          at + ":5: input_length is 0, not a whole number from 1 to 100000000",
                          at + ":6: input_length is 1.5, not a whole number from 1 to 100000000",
                          at + ":7: prompt holds 1000, not a token id from 0 to 999",
                          at + ":8: prompt is neither a text nor a list of token ids",
                          at + ":9: hash_ids holds \"x\", not a whole number",
                          at + ":10: timestamp is \"now\", not milliseconds"));
  EXPECT_THAT(Read("{\"input_length\": 5, \"output_length\": 1}\n", {100, true, 1.0}).bad_lines,
              ElementsAre(HasSubstr("timestamp is not there")));
}

}  // namespace
}  // namespace sluice::bench
