#include <random>

#include "serve/server_fixture.h"

namespace sluice::serve {
namespace {

class Fuzz : public ServerTest {};

// One body after one or two random changes: of a byte, of a token of JSON, or of a piece copied or cut out.
std::string Mutated(std::string body, std::mt19937& random) {
  static const std::vector<std::string> kPieces{"null",
                                                "true",
                                                "-1",
                                                "0",
                                                "1e999",
                                                "9223372036854775808",
                                                "1.5",
                                                "\"\"",
                                                "[]",
                                                "{}",
                                                "[[[[",
                                                "\"\\ud800\"",
                                                "\"prompt\"",
                                                "\"n\":128",
                                                "\"logprobs\":5",
                                                "\"echo\":true",
                                                "\"stream\":true",
                                                "\"max_tokens\":2147483647",
                                                "\"top_k\":-1",
                                                "\"stop\":[\"a\"]",
                                                "299",
                                                "300",
                                                "\xFF",
                                                "\xF0\x9F\x98\x80",
                                                "\\u0000",
                                                ",",
                                                ":",
                                                "}",
                                                "]"};
  for (std::size_t changes = 1 + random() % 2; changes > 0; --changes) {
    const std::size_t at = random() % (body.size() + 1);
    const std::size_t length = std::min<std::size_t>(random() % 12, body.size() - at);
    switch (random() % 5) {
      case 0:
        if (at < body.size()) body[at] = static_cast<char>(random());
        break;
      case 1:
        body.insert(at, kPieces[random() % kPieces.size()]);
        break;
      case 2:
        body.erase(at, length);
        break;
      case 3:
        body.insert(random() % (body.size() + 1), body.substr(at, length));
        break;
      default:
        body.replace(at, length, kPieces[random() % kPieces.size()]);
    }
  }
  return body;
}

TEST_F(Fuzz, TwoThousandMutatedBodiesNeverBecomeOurFault) {
  StartServer("ok");
  const std::vector<std::pair<std::string, std::string>> seeds{
      {"/v1/completions", R"({"model":"tiny","prompt":"abc","max_tokens":4,"temperature":0.5,"logprobs":2})"},
      {"/v1/completions",
       R"({"model":"tiny","prompt":[[7,8],[9]],"echo":true,"logprobs":0,"stop":["x","yy"]})"},
      {"/v1/completions",
       R"({"model":"tiny","prompt":["a","b"],"stream":true,"stream_options":{"include_usage":true}})"},
      {"/v1/chat/completions",
       R"({"model":"tiny","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"u"}]}],"logprobs":true,"top_logprobs":3,"seed":7})"},
      {"/v1/chat/completions",
       R"({"model":"tiny","messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a","reasoning_content":"r"},{"role":"user","content":"v"}],"chat_template_kwargs":{"thinking":true},"stream":true,"max_completion_tokens":3})"},
  };
  std::mt19937 random(20261);
  std::map<int, int> statuses;
  for (int i = 0; i < 2000; ++i) {
    const auto& [path, seed] = seeds[static_cast<std::size_t>(i) % seeds.size()];
    const std::string body = Mutated(seed, random);
    const RawAnswer answer = PostRaw(path, body);
    ++statuses[answer.status];
    ASSERT_TRUE(answer.complete) << body;
    ASSERT_TRUE(answer.status == 200 || answer.status == 400 || answer.status == 404)
        << answer.status << body;
    if (answer.status != 200) {
      ASSERT_NE(answer.code(), "") << body;
    }
    if (answer.header("content-type") == "text/event-stream") {
      ASSERT_EQ(EventsOf(answer.body).back(), "[DONE]") << body;
      ASSERT_EQ(answer.body.find("\"error\""), std::string::npos) << body;
    }
  }
  // The mutations reach past the JSON reader: some bodies are still good, some are refused further in.
  EXPECT_GT(statuses[200], 100);
  EXPECT_GT(statuses[404], 10);
  EXPECT_TRUE(Eventually([this] { return engine_->running() == 0; }));
}

}  // namespace
}  // namespace sluice::serve
