#include <fmt/format.h>

#include "serve/server_fixture.h"
#include "text/deepseek_v32_texts.h"

namespace sluice::serve {
namespace {

const Json kWeather = Json::parse(R"({"type": "function", "function": {"name": "get_weather",
  "description": "Weather of a place", "parameters": {"type": "object",
  "properties": {"place": {"type": "string"}}, "required": ["place"]}}})");
const Json kNow = Json::parse(R"({"type": "function", "function": {"name": "now"}})");
const Json kTools = Json::array({kWeather, kNow});

constexpr int32_t kDsmlToken = 6;  // of the made-up checkpoint

// Text to tokens as the model would write it: its markup has a token of its own.
std::vector<int32_t> Written(std::string_view text) {
  std::vector<int32_t> tokens;
  for (std::size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with(text::kDsml)) {
      tokens.push_back(kDsmlToken);
      at += text::kDsml.size();
    } else if (text.substr(at).starts_with(text::kThinkClose)) {
      tokens.push_back(5);
      at += text::kThinkClose.size();
    } else {
      tokens.push_back(7 + static_cast<unsigned char>(text[at++]));
    }
  }
  return tokens;
}

std::string Call(const std::string& name, const std::string& place) {
  return "<｜DSML｜invoke name=\"" + name + "\">\n<｜DSML｜parameter name=\"place\" string=\"true\">" +
         place + "</｜DSML｜parameter>\n</｜DSML｜invoke>\n";
}
std::string Block(const std::string& calls) {
  return "\n\n<｜DSML｜function_calls>\n" + calls + "</｜DSML｜function_calls>";
}

class ToolsTest : public ServerTest {
 protected:
  void Answers(const std::string& text, int tokens_per_event = 1) {
    Script script;
    script.tokens = Written(text);
    script.tokens.push_back(1);
    script.tokens_per_event = tokens_per_event;
    engine::EngineInfo info = TestEngineInfo();
    info.context_length = info.max_total_tokens = 20'000;
    StartServer(script, info);
  }
  // The prompt of the last request, as text.
  std::string Prompt() { return TestTokenizer().Decode(engine_->requests().back().prompt); }
  Json Choice(Json fields) {
    const RawAnswer answer = Chat(fields);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.status == 200 ? answer.json()["choices"][0] : Json::object();
  }
  // The members of `choices` of a stream.
  std::vector<Json> Stream(Json fields) {
    fields["stream"] = true;
    std::vector<Json> members;
    for (const std::string& event : EventsOf(Chat(fields).body)) {
      if (event != "[DONE]") members.push_back(Json::parse(event)["choices"][0]);
    }
    return members;
  }
};

TEST_F(ToolsTest, ACallIsAMessageWithoutContent) {
  Answers(Block(Call("get_weather", "Oslo \"N\"")));
  const Json choice = Choice({{"tools", kTools}});
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  ASSERT_EQ(choice["message"]["tool_calls"].size(), 1U);
  Json call = choice["message"]["tool_calls"][0];
  EXPECT_EQ(call["id"].get<std::string>().rfind("call_", 0), 0U);
  call.erase("id");
  EXPECT_EQ(call,
            (Json{{"type", "function"},
                  {"function", {{"name", "get_weather"}, {"arguments", R"({"place": "Oslo \"N\""})"}}}}));
  EXPECT_NE(Prompt().find("{\"name\": \"now\"}\n</functions>\n<｜User｜>ab<｜Assistant｜></think>"),
            std::string::npos)
      << Prompt();
}

TEST_F(ToolsTest, AStreamHasTheNameFirstAndThenTheArguments) {
  for (const int tokens_per_event : {1, 7, 1000}) {
    Answers("On it." + Block(Call("get_weather", "Oslo") + Call("now", "x")), tokens_per_event);
    const auto members = Stream({{"tools", kTools}});
    std::string content;
    std::vector<Json> fragments;
    for (const Json& member : members) {
      content += member["delta"].value("content", "");
      if (!member["delta"].contains("tool_calls")) continue;
      ASSERT_EQ(member["delta"]["tool_calls"].size(), 1U);
      EXPECT_TRUE(member["finish_reason"].is_null());
      fragments.push_back(member["delta"]["tool_calls"][0]);
    }
    EXPECT_EQ(content, "On it.");
    ASSERT_EQ(fragments.size(), 4U);
    for (std::size_t i = 0; i < 4; i += 2) {
      EXPECT_EQ(fragments[i]["index"], i / 2);
      EXPECT_EQ(fragments[i]["type"], "function");
      EXPECT_EQ(fragments[i]["id"].get<std::string>().size(), 29U);
      EXPECT_EQ(fragments[i]["function"],
                (Json{{"name", i == 0 ? "get_weather" : "now"}, {"arguments", ""}}));
    }
    EXPECT_EQ(fragments[1], (Json{{"index", 0}, {"function", {{"arguments", R"({"place": "Oslo"})"}}}}));
    EXPECT_EQ(fragments[3], (Json{{"index", 1}, {"function", {{"arguments", R"({"place": "x"})"}}}}));
    EXPECT_NE(fragments[0]["id"], fragments[2]["id"]);
    EXPECT_EQ(members.back()["finish_reason"], "tool_calls");
    EXPECT_EQ(members.back()["delta"], Json::object());
  }
}

TEST_F(ToolsTest, BrokenMarkupIsContentAndStops) {
  const std::string broken = Block("<｜DSML｜invoke name=\"get_weather\">\nhm");
  Answers(fmt::format("a{}", broken));
  const Json choice = Choice({{"tools", kTools}});
  EXPECT_EQ(choice["message"]["content"], fmt::format("a{}", broken));
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
  EXPECT_EQ(choice["finish_reason"], "stop");
}

TEST_F(ToolsTest, ACallThatIsCutOffIsContentAndLength) {
  Answers(Block(Call("get_weather", "Oslo")));
  const Json choice = Choice({{"tools", kTools}, {"max_tokens", 40}});
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_NE(choice["message"]["content"].get<std::string>().find("function_calls>"), std::string::npos);
}

TEST_F(ToolsTest, NoneShowsNoToolsAndReadsNoCalls) {
  Answers(Block(Call("get_weather", "Oslo")));
  const Json choice = Choice({{"tools", kTools}, {"tool_choice", "none"}});
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
  EXPECT_EQ(Prompt(), "<｜begin▁of▁sentence｜><｜User｜>ab<｜Assistant｜></think>");
}

// What is demanded stands at the end of the prompt; the model goes on with it.
TEST_F(ToolsTest, RequiredBeginsACall) {
  Answers("now\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>");
  const Json choice = Choice({{"tools", kTools}, {"tool_choice", "required"}});
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"], (Json{{"name", "now"}, {"arguments", "{}"}}));
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(Prompt().ends_with("</think>\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\""))
      << Prompt();
}

TEST_F(ToolsTest, ANamedToolIsCalledOnceAndStops) {
  Answers("</｜DSML｜invoke>\n" + Call("now", "again") + "</｜DSML｜function_calls>");
  const Json named = {{"tools", kTools},
                      {"tool_choice", {{"type", "function"}, {"function", {{"name", "now"}}}}}};
  const Json choice = Choice(named);
  ASSERT_EQ(choice["message"]["tool_calls"].size(), 1U);
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"], (Json{{"name", "now"}, {"arguments", "{}"}}));
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(Prompt().ends_with("<｜DSML｜invoke name=\"now\">\n")) << Prompt();
  EXPECT_EQ(Stream(named).back()["finish_reason"], "stop");
}

TEST_F(ToolsTest, WithoutParallelCallsTheFirstEndsTheAnswer) {
  Script script;
  script.tokens = Written(Block(Call("get_weather", "a") + Call("get_weather", "b")));
  script.hold = true;
  script.tokens_per_event = 1000;
  engine::EngineInfo info = TestEngineInfo();
  info.context_length = info.max_total_tokens = 20'000;
  StartServer(script, info);
  const Json choice = Choice({{"tools", kTools}, {"parallel_tool_calls", false}});
  EXPECT_EQ(choice["message"]["tool_calls"].size(), 1U);
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(Eventually([this] { return engine_->running() == 0; }));
}

TEST_F(ToolsTest, ThinkingComesBeforeCalls) {
  Answers("need it</think>" + Block(Call("now", "x")));
  const Json choice = Choice({{"tools", kTools}, {"reasoning_effort", "high"}});
  EXPECT_EQ(choice["message"]["reasoning_content"], "need it");
  EXPECT_EQ(choice["message"]["tool_calls"].size(), 1U);
  EXPECT_TRUE(Prompt().ends_with("<think>"));
}

TEST_F(ToolsTest, HowReasoningIsShown) {
  Answers("why</think>so");
  const auto message = [&](Json fields) {
    fields["chat_template_kwargs"] = {{"enable_thinking", true}};
    return Choice(fields)["message"];
  };
  EXPECT_EQ(message(Json::object())["reasoning_content"], "why");
  EXPECT_EQ(message({{"separate_reasoning", false}, {"skip_special_tokens", false}})["content"],
            "why</think>so");
  const Json hidden = message({{"include_reasoning", false}});
  EXPECT_EQ(hidden["content"], "so");
  EXPECT_FALSE(hidden.contains("reasoning_content"));
  EXPECT_EQ(Choice({{"reasoning_effort", "none"}})["message"]["content"], "why</think>so");
}

TEST_F(ToolsTest, CallsAndResultsOfEarlierTurns) {
  Answers("x");
  const Json messages = Json::parse(R"([
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": null, "tool_calls": [
      {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"place\":\"Oslo\"}"}},
      {"id": "c2", "type": "function", "function": {"name": "now", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c2", "content": "noon"},
    {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "cold"}]}])");
  Choice({{"messages", messages}});
  EXPECT_EQ(Prompt(),
            "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜></think>\n\n<｜DSML｜function_calls>\n"
            "<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"place\" "
            "string=\"true\">Oslo</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"now\">\n\n"
            "</｜DSML｜invoke>\n</｜DSML｜function_calls><｜end▁of▁sentence｜>\n\n<function_results>\n"
            "<result>cold</result>\n<result>noon</result>\n</function_results>\n\n</think>");
}

TEST_F(ToolsTest, DevelopersSpeakForTheSystemUnlessTheyAreLast) {
  Answers("x");
  const auto turn = [](const char* role) { return Json{{"role", role}, {"content", role}}; };
  Choice({{"messages", Json::array({turn("developer"), turn("user")})}});
  EXPECT_EQ(Prompt(), "<｜begin▁of▁sentence｜>developer<｜User｜>user<｜Assistant｜></think>");
  Choice({{"messages", Json::array({turn("system"), turn("developer")})}});
  EXPECT_EQ(Prompt(),
            "<｜begin▁of▁sentence｜>system<｜User｜>\n\n# The user's message is: developer"
            "<｜Assistant｜></think>");
}

// As a client sends an answer back that ended in its reasoning: with the reasoning and without.
TEST_F(ToolsTest, AnAnswerWithoutContentIsAnEmptyTurn) {
  Answers("x</think>y");
  Json messages = Json::parse(R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": null},
    {"role": "user", "content": "b"}])");
  for (const bool thinking : {false, true}) {
    for (const bool reasoned : {false, true}) {
      if (reasoned) messages[1]["reasoning_content"] = "why";
      Choice({{"messages", messages}, {"chat_template_kwargs", {{"thinking", thinking}}}});
      EXPECT_EQ(Prompt(),
                fmt::format("<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜></think><｜end▁of▁sentence｜>"
                            "<｜User｜>b<｜Assistant｜>{}",
                            thinking ? "<think>" : "</think>"));
    }
    messages[1].erase("reasoning_content");
  }
}

TEST_F(ToolsTest, WhereThePromptEnds) {
  Answers("x</think>y");
  const Json half = Json::parse(R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b",
    "reasoning_content": "why"}])");
  Choice({{"messages", half}, {"continue_final_message", true}});
  EXPECT_TRUE(Prompt().ends_with("<｜Assistant｜></think>b"));
  const Json thinking = {{"thinking", true}};
  Json choice =
      Choice({{"messages", half}, {"continue_final_message", true}, {"chat_template_kwargs", thinking}});
  EXPECT_TRUE(Prompt().ends_with("<think>why</think>b"));
  EXPECT_EQ(choice["message"]["reasoning_content"], "");
  Json inside = half;
  inside[1]["content"] = "";
  choice =
      Choice({{"messages", inside}, {"continue_final_message", true}, {"chat_template_kwargs", thinking}});
  EXPECT_TRUE(Prompt().ends_with("<think>why"));
  EXPECT_EQ(choice["message"]["reasoning_content"], "x");
  EXPECT_EQ(choice["message"]["content"], "y");
  Choice({{"add_generation_prompt", false}});
  EXPECT_EQ(Prompt(), "<｜begin▁of▁sentence｜><｜User｜>ab");
}

TEST_F(ToolsTest, BadToolsAreRefusedByName) {
  Answers("x");
  const auto tool = [](const Json& function) {
    return Json{{"tools", Json::array({{{"type", "function"}, {"function", function}}})}};
  };
  const auto calls = [](const std::string& name, const std::string& arguments, int results) {
    Json messages = Json::array(
        {{{"role", "user"}, {"content", "a"}},
         {{"role", "assistant"},
          {"tool_calls", Json::array({{{"id", "c"},
                                       {"type", "function"},
                                       {"function", {{"name", name}, {"arguments", arguments}}}}})}}});
    for (int i = 0; i < results; ++i) {
      messages.push_back({{"role", "tool"}, {"tool_call_id", "c"}, {"content", "r"}});
    }
    return Json{{"messages", messages}};
  };
  const auto with = [](Json fields, const Json& more) {
    fields.update(more);
    return fields;
  };
  Json many = Json::array();
  for (int i = 0; i < 129; ++i) {
    many.push_back({{"type", "function"}, {"function", {{"name", fmt::format("f{}", i)}}}});
  }
  Json unknown_id = calls("f", "{}", 1);
  unknown_id["messages"][2]["tool_call_id"] = "d";
  struct Row {
    Json fields;
    std::string code;
    std::string param;
  };
  const std::vector<Row> rows = {
      {{{"tools", "x"}}, "invalid_type", "tools"},
      {{{"tools", {1}}}, "invalid_type", "tools[0]"},
      {{{"tools", Json::array({Json{{"type", "function"}}})}},
       "missing_required_parameter",
       "tools[0].function"},
      {{{"tools", Json::array({Json{{"type", "retrieval"}}})}}, "unsupported_parameter", "tools[0].type"},
      {tool({{"name", ""}}), "invalid_value", "tools[0].function.name"},
      {tool({{"name", "a b"}}), "invalid_value", "tools[0].function.name"},
      {tool({{"name", std::string(65, 'a')}}), "invalid_value", "tools[0].function.name"},
      {tool({{"name", "a"}, {"parameters", "x"}}), "invalid_type", "tools[0].function.parameters"},
      {tool({{"name", "a"}, {"parameters", {{"type", "string"}}}}), "invalid_value",
       "tools[0].function.parameters.type"},
      {{{"tools", Json::array({kNow, kNow})}}, "invalid_value", "tools[1].function.name"},
      {{{"tools", many}}, "invalid_value", "tools"},
      {{{"tool_choice", "required"}}, "invalid_value", "tool_choice"},
      {{{"tools", kTools}, {"tool_choice", "sometimes"}}, "invalid_value", "tool_choice"},
      {{{"tools", kTools}, {"tool_choice", {{"type", "function"}, {"function", {{"name", "f"}}}}}},
       "invalid_value",
       "tool_choice"},
      {{{"tools", kTools}, {"tool_choice", "required"}, {"reasoning_effort", "low"}},
       "unsupported_parameter",
       "tool_choice"},
      {calls("f", "{", 1), "invalid_value", "messages"},
      {with(calls("f", "[]", 1), {{"tools", kTools}}), "invalid_value", "messages"},
      {calls("f", "{}", 0), "invalid_value", "messages[1].tool_calls"},
      {calls("f", "{}", 2), "invalid_value", "messages[1].tool_calls"},
      {calls("f f", "{}", 1), "invalid_value", "messages[1].tool_calls[0].function.name"},
      {unknown_id, "invalid_value", "messages[2].tool_call_id"},
      {{{"messages", Json::array({Json{{"role", "tool"}, {"content", "r"}}})}}, "invalid_value", "messages"},
      {{{"chat_template_kwargs", {{"thinking", true}, {"enable_thinking", false}}}},
       "invalid_value",
       "chat_template_kwargs"},
      {{{"chat_template_kwargs", {{"thinking", true}}}, {"reasoning_effort", "none"}},
       "invalid_value",
       "reasoning_effort"},
      {{{"reasoning_effort", "a lot"}}, "invalid_value", "reasoning_effort"},
      {{{"continue_final_message", true}}, "invalid_value", "messages"},
      {{{"continue_final_message", true}, {"add_generation_prompt", true}},
       "invalid_value",
       "continue_final_message"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.fields.dump().substr(0, 200));
    ExpectRefused(Chat(row.fields), 400, "invalid_request_error", row.code, row.param);
  }
  EXPECT_TRUE(engine_->requests().empty());
}

// A refusal counts messages as the client does, also when the tools have put one in front.
TEST_F(ToolsTest, RefusalsCountTheClientsMessages) {
  Answers("x");
  const RawAnswer answer = Chat({{"tools", kTools},
                                 {"messages", Json::array({Json{{"role", "user"}, {"content", "a"}},
                                                           Json{{"role", "tool"}, {"content", "r"}}})}});
  EXPECT_NE(answer.body.find("messages[1] is a tool result"), std::string::npos) << answer.body;
}

TEST_F(ToolsTest, WithoutAParserToolsAreRefusedAndReasoningIsContent) {
  options_.parse_tool_calls = options_.parse_reasoning = false;
  Answers("why</think>so");
  ExpectRefused(Chat({{"tools", kTools}}), 400, "invalid_request_error", "unsupported_parameter", "tools");
  EXPECT_EQ(Chat({{"tools", kTools}, {"tool_choice", "none"}}).status, 200);
  EXPECT_EQ(Choice({{"reasoning_effort", "high"}, {"skip_special_tokens", false}})["message"]["content"],
            "why</think>so");
}

}  // namespace
}  // namespace sluice::serve
