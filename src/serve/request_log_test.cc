#include "serve/request_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/server_fixture.h"

namespace sluice::serve {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

engine::Request RequestOf(const std::string& text) {
  engine::Request request;
  request.prompt = ByteTokens(text);
  request.max_tokens = 9;
  request.temperature = 0.5F;
  request.min_p = 0.25F;
  return request;
}

TEST(RequestLog, EachLevelAddsToTheOneBelow) {
  const engine::Request request = RequestOf("secret words");
  EXPECT_EQ(RequestLog(0, &TestTokenizer()).ReceivedLine("cmpl-a", request),
            "request cmpl-a: 12 prompt tokens, max_tokens 9");
  const std::string parameters = RequestLog(1, &TestTokenizer()).ReceivedLine("cmpl-a", request);
  EXPECT_EQ(
      parameters,
      "request cmpl-a: 12 prompt tokens, max_tokens 9, temperature 0.5, top_p 1, top_k 0, seed 0, min_p "
      "0.25");
  EXPECT_THAT(RequestLog(2, &TestTokenizer()).ReceivedLine("cmpl-a", request),
              testing::AllOf(HasSubstr(parameters), EndsWith(", prompt \"secret words\"")));
}

TEST(RequestLog, BelowLevelTwoNobodysTextIsInIt) {
  for (const int level : {0, 1}) {
    const RequestLog log(level, &TestTokenizer());
    EXPECT_THAT(log.ReceivedLine("a", RequestOf("secret words")), Not(HasSubstr("secret")));
    std::string answer;
    log.Append("secret answer", answer);
    EXPECT_EQ(log.EndedLine("a", "stop", 3, answer), "request a ended: stop, 3 answer tokens");
  }
}

TEST(RequestLog, TextsAreEscapedAndCutBetweenCharacters) {
  const RequestLog some(2, &TestTokenizer());
  const RequestLog all(3, &TestTokenizer());
  EXPECT_THAT(some.ReceivedLine("a", RequestOf("x\n[00:00:00.000] error \"forged\"\x1b[2J")),
              EndsWith(R"(prompt "x\n[00:00:00.000] error \"forged\"\u001b[2J")"));
  const std::string text =
      std::string(2047, 'a') + "\xC3\xA9 and the rest";  // e acute across the 2,048th byte
  std::string begin;
  std::string whole;
  some.Append(text, begin);
  some.Append("more", begin);
  all.Append(text, whole);
  EXPECT_EQ(begin, std::string(2047, 'a') + "...");
  EXPECT_EQ(whole, text);
  EXPECT_THAT(some.ReceivedLine("a", RequestOf(text)), EndsWith(std::string(2047, 'a') + "...\""));
}

}  // namespace
}  // namespace sluice::serve
