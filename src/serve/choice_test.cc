#include <gmock/gmock.h>

#include "serve/server_fixture.h"
#include "text/grammar.h"

namespace sluice::serve {
namespace {

// How tokens are chosen, as the engine is told.
class ChoiceTest : public ServerTest {
 protected:
  // The request that reached the engine.
  engine::Request Sent() { return engine_->requests().back(); }

  // Whether the grammar that reached the engine takes the text as a whole answer.
  bool Takes(std::string_view text) {
    text::GrammarState state(Sent().grammar);
    for (const int32_t token : ByteTokens(text)) {
      if (!state.Accept(token)) return false;
    }
    std::vector<uint32_t> mask((kTestVocabulary + 31) / 32);
    return state.Fill(mask).end;
  }
};

TEST_F(ChoiceTest, PenaltiesBiasesAndLengthsReachTheEngine) {
  StartServer();
  for (const bool chat : {true, false}) {
    const Json fields = {{"min_p", 0.25},
                         {"frequency_penalty", -1.5},
                         {"presence_penalty", 0.5},
                         {"repetition_penalty", 1.25},
                         {"logit_bias", {{"299", -100}, {"7", 1.5}}},
                         {"min_tokens", 3}};
    const RawAnswer answer = chat ? Chat(fields) : Complete(fields);
    ASSERT_EQ(answer.status, 200) << answer.body;
    EXPECT_EQ(answer.header("x-ignored-fields"), "");
    const engine::Request request = Sent();
    EXPECT_EQ(request.min_p, 0.25F);
    EXPECT_EQ(request.frequency_penalty, -1.5F);
    EXPECT_EQ(request.presence_penalty, 0.5F);
    EXPECT_EQ(request.repetition_penalty, 1.25F);
    EXPECT_THAT(request.logit_bias,
                testing::UnorderedElementsAre(testing::Pair(299, -100.0F), testing::Pair(7, 1.5F)));
    EXPECT_EQ(request.min_tokens, 3);
    EXPECT_EQ(request.grammar, nullptr);
  }
}

TEST_F(ChoiceTest, EveryFormatBecomesAGrammar) {
  StartServer();
  const Json schema = {{"type", "object"},
                       {"properties", {{"a", {{"type", "integer"}}}}},
                       {"required", {"a"}},
                       {"additionalProperties", false}};
  const Json format = {{"type", "json_schema"},
                       {"json_schema", {{"name", "n"}, {"strict", true}, {"schema", schema}}}};
  for (const Json& fields : {Json{{"response_format", format}}, Json{{"guided_json", schema}},
                             Json{{"json_schema", schema.dump()}}}) {
    const RawAnswer answer = Chat(fields);
    ASSERT_EQ(answer.status, 200) << answer.body;
    EXPECT_TRUE(Takes(R"({"a": 5})")) << fields;
    EXPECT_FALSE(Takes(R"({"b": 5})")) << fields;
    EXPECT_EQ(Sent().grammar_after, -1);
  }
  ASSERT_EQ(Complete({{"response_format", {{"type", "json_object"}}}}).status, 200);
  EXPECT_TRUE(Takes(R"({"any":[1]})"));
  EXPECT_FALSE(Takes("[1]"));
  for (const char* name : {"regex", "guided_regex"}) {
    ASSERT_EQ(Complete({{name, "(yes|no)!"}}).status, 200);
    EXPECT_TRUE(Takes("no!")) << name;
    EXPECT_FALSE(Takes("no")) << name;
  }
  ASSERT_EQ(Complete({{"response_format", {{"type", "text"}}}}).status, 200);
  EXPECT_EQ(Sent().grammar, nullptr);
  const RawAnswer native =
      Post("/generate", {{"text", "a"}, {"sampling_params", {{"regex", "[0-9]{2}"}, {"min_p", 0.5}}}});
  ASSERT_EQ(native.status, 200) << native.body;
  EXPECT_TRUE(Takes("42"));
  EXPECT_EQ(Sent().min_p, 0.5F);
}

TEST_F(ChoiceTest, BehindThinkingTheFormatBeginsWithTheAnswer) {
  Script script;
  script.tokens = ByteTokens("hm");
  script.tokens.push_back(5);
  for (const int32_t token : ByteTokens("{}")) script.tokens.push_back(token);
  script.tokens.push_back(1);
  StartServer(script);
  const Json answer =
      Chat({{"chat_template_kwargs", {{"thinking", true}}}, {"response_format", {{"type", "json_object"}}}})
          .json();
  EXPECT_EQ(answer["choices"][0]["message"]["content"], "{}");
  EXPECT_EQ(Sent().grammar_after, 5);
  EXPECT_TRUE(Takes("{}"));
}

TEST_F(ChoiceTest, SeveralGrammarsAtOnceAndStreamsWait) {
  StartServer();
  std::vector<std::thread> clients;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      const Json fields = {{"regex", "[a-z]{" + std::to_string(i + 1) + "}"}, {"stream", i % 2 == 0}};
      const RawAnswer answer = Complete(fields);
      if (answer.status == 200 && (i % 2 != 0 || answer.body.find("[DONE]") != std::string::npos)) ++good;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good, 8);
}

TEST_F(ChoiceTest, AFormatAndToolsExcludeEachOther) {
  StartServer();
  const Json tool = {{"type", "function"},
                     {"function", {{"name", "f"}, {"parameters", {{"type", "object"}}}}}};
  const Json fields = {{"tools", Json::array({tool})}, {"response_format", {{"type", "json_object"}}}};
  ExpectRefused(Chat(fields), 400, "invalid_request_error", "unsupported_parameter", "response_format");
  Json without = fields;
  without["tool_choice"] = "none";
  EXPECT_EQ(Chat(without).status, 200);
}

}  // namespace
}  // namespace sluice::serve
