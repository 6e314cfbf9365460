#include "bench/load_client.h"

#include <gtest/gtest.h>

namespace sluice::bench {
namespace {

LoadRequest SomeRequest() { return {std::vector<int32_t>{5, 6, 7}, 3, 4, 0.0}; }

std::string Chunk(const std::string& text) {
  return R"({"choices": [{"index": 0, "text": ")" + text + "\"}]}";
}

constexpr const char* kUsage = R"({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3,)"
                               R"( "prompt_tokens_details": {"cached_tokens": 2}}})";

TEST(CompletionBody, AsksForAStreamWithItsUsage) {
  AskOptions options;
  options.model = "m";
  options.extra = {{"top_p", 0.5}, {"top_k", 1}};
  // In any order.
  EXPECT_EQ(nlohmann::json::parse(CompletionBody(SomeRequest(), options)), nlohmann::json::parse(R"({
    "model": "m", "prompt": [5, 6, 7], "max_tokens": 4, "temperature": 0.0, "top_p": 0.5, "top_k": 1,
    "ignore_eos": true, "stream": true, "stream_options": {"include_usage": true}})"));
  LoadRequest text{std::string("say \"x\""), 0, 1, 0.0};
  options.ignore_eos = false;
  const Json body = Json::parse(CompletionBody(text, options));
  EXPECT_EQ(body["prompt"], "say \"x\"");
  EXPECT_EQ(body["ignore_eos"], false);
}

TEST(AnswerReader, TakesTimesOfChunksWithTextAndTheServersCounts) {
  AnswerReader reader(SomeRequest(), 1000);
  reader.Take(Chunk(""), 1500);  // says nothing yet
  reader.Take(Chunk("a"), 2000);
  reader.Take(Chunk("bc"), 2600);
  reader.Take(Chunk(""), 2700);
  reader.Take(kUsage, 2800);
  reader.Take("[DONE]", 3000);
  const RequestRecord record = reader.Finish();
  EXPECT_TRUE(record.ok()) << record.error;
  EXPECT_EQ(record.start_ns, 1000);
  EXPECT_EQ(record.chunk_ns, (std::vector<int64_t>{2000, 2600}));
  EXPECT_EQ(record.end_ns, 3000);
  EXPECT_EQ(record.prompt_tokens, 9);
  EXPECT_EQ(record.output_tokens, 3);
  EXPECT_EQ(record.cached_tokens, 2);
  EXPECT_EQ(record.text, "abc");
}

TEST(AnswerReader, CountsWhatWasAskedForWhereTheServerDoesNotCount) {
  AnswerReader reader(SomeRequest(), 0);
  reader.Take(Chunk("a"), 10);
  reader.Take("[DONE]", 20);
  const RequestRecord record = reader.Finish();
  EXPECT_EQ(record.prompt_tokens, 3);
  EXPECT_EQ(record.output_tokens, 4);
}

TEST(AnswerReader, AnErrorAStrangeEventAndACutStreamAreFailures) {
  AnswerReader failing(SomeRequest(), 0);
  failing.Take(Chunk("a"), 10);
  failing.Take(R"({"error": {"message": "rank 1 is gone", "code": 503}})", 20);
  failing.Take("[DONE]", 30);
  EXPECT_EQ(failing.Finish().error, "rank 1 is gone");
  AnswerReader strange(SomeRequest(), 0);
  strange.Take("17", 10);
  strange.Take("[DONE]", 30);
  EXPECT_EQ(strange.Finish().error, "the server sent an event that is no JSON object: 17");
  AnswerReader cut(SomeRequest(), 0);
  cut.Take(Chunk("a"), 10);
  EXPECT_EQ(cut.Finish().error, "the stream ended without [DONE]");
}

}  // namespace
}  // namespace sluice::bench
