#include <fmt/format.h>

#include "serve/server_fixture.h"
#include "text/glm_call_text.h"
#include "text/grammar.h"

namespace sluice::serve {
namespace {

const Json kGlmWeather =
    Json::parse(R"({"type": "function", "function": {"name": "get_weather", "strict": true,
  "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
  "required": ["place"]}}})");
const Json kGlmNow = Json::parse(R"({"type": "function", "function": {"name": "now"}})");
const Json kGlmTools = Json::array({kGlmWeather, kGlmNow});
const Json kNoThinking = {{"enable_thinking", false}};

// As TestTokenizer, for GLM: marks are the tokens 0 to 19, token 20 + b is byte b.
const text::Tokenizer& GlmTokenizer() {
  static const std::unique_ptr<text::Tokenizer> tokenizer = text::Tokenizer::Parse(
      text::ByteTokenizerJson(kTestVocabulary, {}, text::TokenizerFamily::kGlm), "glm");
  return *tokenizer;
}

class GlmChatTest : public ServerTest {
 protected:
  // Every request gets the answer `text`, which ends with <|user|>.
  void Answers(const std::string& text, text::ChatStyle style = text::ChatStyle::kGlm52,
               int tokens_per_event = 1) {
    options_.chat = {style, text::CallMarkup::kGlm47};
    Script script;
    script.tokens = GlmTokenizer().Encode(text);
    script.tokens.push_back(7);
    script.tokens_per_event = tokens_per_event;
    engine::EngineInfo info = TestEngineInfo();
    info.context_length = info.max_total_tokens = 20'000;
    info.eos_token_ids = {0, 7, 9};
    engine_ =
        std::make_unique<FakeEngine>(std::move(info), [script](const engine::Request&) { return script; });
    server_ = std::make_unique<Server>(options_, *engine_, GlmTokenizer(), TestServerInfo(), watchers_);
    server_->Start();
  }
  std::string Prompt() { return GlmTokenizer().Decode(engine_->requests().back().prompt); }
  Json Choice(const Json& fields) {
    const RawAnswer answer = Chat(fields);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.status == 200 ? answer.json()["choices"][0] : Json::object();
  }
};

TEST_F(GlmChatTest, ThinksUnlessToldNotTo) {
  Answers("why</think>so");
  Json choice = Choice(Json::object());
  EXPECT_EQ(Prompt(), "[gMASK]<sop><|system|>Reasoning Effort: Max<|user|>ab<|assistant|><think>");
  EXPECT_EQ(choice["message"]["reasoning_content"], "why");
  EXPECT_EQ(choice["message"]["content"], "so");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(choice["stop_reason"].is_null());
  EXPECT_EQ(engine_->requests().back().stop_token_ids, (std::vector<int32_t>{0, 7, 9}));
  choice = Choice({{"chat_template_kwargs", kNoThinking}});
  EXPECT_EQ(Prompt(), "[gMASK]<sop><|user|>ab<|assistant|><think></think>");
  EXPECT_EQ(choice["message"]["content"], "why</think>so");
  EXPECT_FALSE(choice["message"].contains("reasoning_content"));
  Choice({{"reasoning_effort", "none"}});
  EXPECT_TRUE(Prompt().ends_with("<|assistant|><think></think>"));
}

TEST_F(GlmChatTest, AnAnswerWithoutContentIsAnEmptyTurn) {
  Json messages = Json::parse(R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": null},
    {"role": "user", "content": "b"}])");
  for (const text::ChatStyle style :
       {text::ChatStyle::kGlm5, text::ChatStyle::kGlm51, text::ChatStyle::kGlm52}) {
    Answers("x", style);
    messages[1]["content"] = "";
    Choice({{"messages", messages}});
    const std::string empty = Prompt();
    EXPECT_EQ(empty.find("None"), std::string::npos) << empty;
    messages[1]["content"] = nullptr;
    Choice({{"messages", messages}});
    EXPECT_EQ(Prompt(), empty);
  }
}

TEST_F(GlmChatTest, EffortsOfTheVersions) {
  Answers("x");
  const std::vector<std::pair<Json, std::string>> rows = {
      {{{"reasoning_effort", "max"}}, "Max"},
      {{{"reasoning_effort", "xhigh"}}, "Max"},
      {{{"reasoning_effort", "high"}}, "High"},
      {{{"reasoning_effort", "low"}}, "High"},
      {{{"chat_template_kwargs", {{"reasoning_effort", "high"}}}}, "High"},
      {{{"chat_template_kwargs", {{"enable_thinking", true}}}}, "Max"}};
  for (const auto& [fields, effort] : rows) {
    Choice(fields);
    EXPECT_NE(Prompt().find("<|system|>Reasoning Effort: " + effort + "<|user|>"), std::string::npos)
        << fields;
  }
  for (const text::ChatStyle style : {text::ChatStyle::kGlm5, text::ChatStyle::kGlm51}) {
    Answers("x", style);
    Choice({{"reasoning_effort", "high"}});
    EXPECT_EQ(Prompt(), "[gMASK]<sop><|user|>ab<|assistant|><think>");
    ExpectRefused(Chat({{"chat_template_kwargs", {{"reasoning_effort", "high"}}}}), 400,
                  "invalid_request_error", "unsupported_parameter", "chat_template_kwargs");
  }
}

TEST_F(GlmChatTest, ToolsStandInFrontAndResultsFollowTheirCalls) {
  Answers("x", text::ChatStyle::kGlm51);
  const Json messages = Json::parse(R"([
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": null, "reasoning_content": "r1", "tool_calls": [
      {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"place\":\"Oslo\",\"days\":2}"}},
      {"id": "c2", "type": "function", "function": {"name": "now", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c2", "content": "noon"},
    {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "cold"}]}])");
  Choice({{"messages", messages}, {"tools", kGlmTools}});
  const std::string prompt = Prompt();
  EXPECT_TRUE(prompt.starts_with("[gMASK]<sop><|system|>\n# Tools\n")) << prompt;
  EXPECT_NE(prompt.find("<tools>\n{\"name\": \"get_weather\", \"parameters\": "), std::string::npos)
      << prompt;
  EXPECT_TRUE(prompt.ends_with(
      "<|system|>Be brief.<|user|>q<|assistant|><think>r1</think>"
      "<tool_call>get_weather<arg_key>place</arg_key><arg_value>Oslo</arg_value><arg_key>days</arg_key>"
      "<arg_value>2</arg_value></tool_call><tool_call>now</tool_call><|observation|>"
      "<tool_response>cold</tool_response><tool_response>noon</tool_response><|assistant|><think>"))
      << prompt;
  // In the course of the next turn its reasoning is gone, unless it is asked for.
  Json next = messages;
  next.push_back({{"role", "assistant"}, {"content", "cold at noon"}});
  next.push_back({{"role", "user"}, {"content", "thanks"}});
  Choice({{"messages", next}});
  EXPECT_NE(Prompt().find("<|user|>q<|assistant|></think><tool_call>"), std::string::npos);
  Choice({{"messages", next}, {"chat_template_kwargs", {{"clear_thinking", false}}}});
  EXPECT_NE(Prompt().find("<|user|>q<|assistant|><think>r1</think><tool_call>"), std::string::npos);
}

TEST_F(GlmChatTest, CallsAreReadFromTheAnswer) {
  for (const int tokens_per_event : {1, 7, 1000}) {
    Answers(
        "need it</think>On it.\n" +
            text::GlmCall("get_weather", text::GlmArgument("place", "42") + text::GlmArgument("days", "3")) +
            text::GlmCall("now"),
        text::ChatStyle::kGlm5, tokens_per_event);
    const Json choice = Choice({{"tools", kGlmTools}});
    EXPECT_EQ(choice["finish_reason"], "tool_calls");
    EXPECT_EQ(choice["message"]["reasoning_content"], "need it");
    EXPECT_EQ(choice["message"]["content"], "On it.");
    ASSERT_EQ(choice["message"]["tool_calls"].size(), 2U);
    EXPECT_EQ(choice["message"]["tool_calls"][0]["function"],
              (Json{{"name", "get_weather"}, {"arguments", R"({"place": "42", "days": 3})"}}));
    EXPECT_EQ(choice["message"]["tool_calls"][1]["function"], (Json{{"name", "now"}, {"arguments", "{}"}}));
    // In a stream each is let out whole.
    std::vector<Json> fragments;
    std::string content;
    for (const std::string& event : EventsOf(Chat({{"tools", kGlmTools}, {"stream", true}}).body)) {
      if (event == "[DONE]") continue;
      const Json delta = Json::parse(event)["choices"][0]["delta"];
      content += delta.value("content", "");
      if (delta.contains("tool_calls")) fragments.push_back(delta["tool_calls"][0]["function"]);
    }
    EXPECT_EQ(content, "On it.");
    ASSERT_EQ(fragments.size(), 4U);
    EXPECT_EQ(fragments[1]["arguments"], R"({"place": "42", "days": 3})");
    EXPECT_EQ(fragments[2]["name"], "now");
  }
}

TEST_F(GlmChatTest, ACallInsideAnOpenThinkBlock) {
  Answers("I will ask." + text::GlmCall("now"));
  const Json choice = Choice({{"tools", kGlmTools}});
  EXPECT_EQ(choice["message"]["reasoning_content"], "I will ask.");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"]["name"], "now");
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
}

TEST_F(GlmChatTest, BrokenMarkupIsContent) {
  Answers("</think><tool_call>get_weather" + text::GlmArgument("place", "x"));
  const Json choice = Choice({{"tools", kGlmTools}});
  EXPECT_EQ(choice["message"]["content"], "<tool_call>get_weather" + text::GlmArgument("place", "x"));
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
  EXPECT_EQ(choice["finish_reason"], "stop");
}

// A grammar makes the call that is demanded, with thinking after it.
TEST_F(GlmChatTest, DemandedCallsHaveAGrammar) {
  Answers(text::GlmCall("now"));
  const auto allowed = [](const engine::Request& request) {
    text::GrammarState state(request.grammar);
    std::vector<uint32_t> mask((kTestVocabulary + 31) / 32);
    state.Fill(mask);
    std::vector<int32_t> tokens;
    for (int32_t token = 0; token < kTestVocabulary; ++token) {
      if ((mask[static_cast<std::size_t>(token) / 32] >> (token % 32) & 1U) != 0) tokens.push_back(token);
    }
    return tokens;
  };
  const Json required = {
      {"tools", kGlmTools}, {"tool_choice", "required"}, {"chat_template_kwargs", kNoThinking}};
  Json choice = Choice(required);
  engine::Request sent = engine_->requests().back();
  ASSERT_NE(sent.grammar, nullptr);
  EXPECT_EQ(sent.grammar_after, -1);
  // <tool_call>, or its first letter.
  EXPECT_EQ(allowed(sent), (std::vector<int32_t>{12, 20 + '<'}));
  EXPECT_TRUE(Prompt().ends_with("<|assistant|><think></think>"));
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"]["name"], "now");
  // With thinking it begins behind </think>.
  Choice({{"tools", kGlmTools}, {"tool_choice", "required"}});
  EXPECT_EQ(engine_->requests().back().grammar_after, 11);
  EXPECT_TRUE(Prompt().ends_with("<|assistant|><think>"));
  // A named one is called once.
  choice = Choice({{"tools", kGlmTools},
                   {"tool_choice", {{"type", "function"}, {"function", {{"name", "now"}}}}},
                   {"chat_template_kwargs", kNoThinking}});
  sent = engine_->requests().back();
  text::GrammarState state(sent.grammar);
  for (const int32_t token : GlmTokenizer().Encode(text::GlmCall("now")))
    EXPECT_TRUE(state.Accept(token)) << token;
  std::vector<uint32_t> mask((kTestVocabulary + 31) / 32);
  const auto next = state.Fill(mask);
  EXPECT_TRUE(next.end);
  EXPECT_FALSE(next.text);
  EXPECT_EQ(choice["finish_reason"], "stop");
  // Without a demand there is none.
  Choice({{"tools", kGlmTools}});
  EXPECT_EQ(engine_->requests().back().grammar, nullptr);
}

TEST_F(GlmChatTest, AFormatBeginsBehindTheReasoning) {
  Answers("why</think>{}");
  const Json object = {{"response_format", {{"type", "json_object"}}}};
  Choice(object);
  EXPECT_EQ(engine_->requests().back().grammar_after, 11);
  Json quiet = object;
  quiet["chat_template_kwargs"] = kNoThinking;
  Choice(quiet);
  EXPECT_EQ(engine_->requests().back().grammar_after, -1);
}

TEST_F(GlmChatTest, WhereThePromptEnds) {
  Answers("x</think>y");
  const Json half = Json::parse(R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b ",
    "reasoning_content": "why"}])");
  Choice({{"messages", half}, {"continue_final_message", true}});
  EXPECT_TRUE(Prompt().ends_with("<|assistant|><think>why</think>b "));
  Json inside = half;
  inside[1]["content"] = "";
  const Json choice = Choice({{"messages", inside}, {"continue_final_message", true}});
  EXPECT_TRUE(Prompt().ends_with("<think>why"));
  EXPECT_EQ(choice["message"]["reasoning_content"], "x");
  EXPECT_EQ(choice["message"]["content"], "y");
  Choice({{"add_generation_prompt", false}});
  EXPECT_TRUE(Prompt().ends_with("<|user|>ab"));
}

TEST_F(GlmChatTest, TheRenderedPromptIsTheOneThatIsAnswered) {
  Answers("x");
  Choice({{"tools", kGlmTools}});
  const RawAnswer rendered =
      Post("/v1/chat/completions/render",
           {{"messages", Json::array({{{"role", "user"}, {"content", "ab"}}})}, {"tools", kGlmTools}});
  EXPECT_EQ(rendered.json()["prompt"], Prompt());
}

}  // namespace
}  // namespace sluice::serve
