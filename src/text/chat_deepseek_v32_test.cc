#include "text/chat_deepseek_v32.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/test_support.h"

namespace sluice::text {
namespace {

using Mode = DeepSeekV32ChatOptions::Mode;
using Messages = std::vector<ChatMessage>;
using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string Prompt(const Messages& messages, Mode mode) {
  return EncodeDeepSeekV32Chat(messages, {.mode = mode});
}

TEST(ChatDeepSeekV32, AUserTurnOpensTheAssistant) {
  const Messages messages = {{"system", "Be brief.", ""}, {"user", "hello", ""}};
  EXPECT_EQ(Prompt(messages, Mode::kChat),
            "<｜begin▁of▁sentence｜>Be brief.<｜User｜>hello<｜Assistant｜></think>");
  EXPECT_EQ(Prompt(messages, Mode::kThinking),
            "<｜begin▁of▁sentence｜>Be brief.<｜User｜>hello<｜Assistant｜><think>");
  EXPECT_EQ(EncodeDeepSeekV32Chat(messages, {.add_default_bos_token = false}),
            "Be brief.<｜User｜>hello<｜Assistant｜></think>");
}

TEST(ChatDeepSeekV32, PastTurnsCloseTheirThinking) {
  const Messages messages = {{"user", "a", ""}, {"assistant", "b", "why"}, {"user", "c", ""}};
  EXPECT_EQ(Prompt(messages, Mode::kThinking),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜></think>b<｜end▁of▁sentence｜>"
            "<｜User｜>c<｜Assistant｜><think>");
}

TEST(ChatDeepSeekV32, AnAnswerAfterTheLastUserKeepsItsReasoning) {
  const Messages messages = {{"user", "a", ""}, {"assistant", "b", "why"}, {"system", "s", ""}};
  EXPECT_EQ(Prompt(messages, Mode::kThinking),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜><think>why</think>b<｜end▁of▁sentence｜>s");
  EXPECT_EQ(Prompt(messages, Mode::kChat),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜></think>b<｜end▁of▁sentence｜>s");
}

TEST(ChatDeepSeekV32, WithoutAUserEveryAssistantIsAfterTheLastOne) {
  EXPECT_EQ(Prompt({{"assistant", "b", "why"}}, Mode::kThinking),
            "<｜begin▁of▁sentence｜>why</think>b<｜end▁of▁sentence｜>");
  EXPECT_EQ(Prompt({{"assistant", "b", "why"}}, Mode::kChat),
            "<｜begin▁of▁sentence｜>b<｜end▁of▁sentence｜>");
  EXPECT_EQ(Prompt({}, Mode::kChat), "<｜begin▁of▁sentence｜>");
}

TEST(ChatDeepSeekV32, WithoutAGenerationPromptTheLastMessageEndsWithItsContent) {
  const auto prompt = [](const Messages& messages) {
    return EncodeDeepSeekV32Chat(messages, {.add_default_bos_token = false, .add_generation_prompt = false});
  };
  EXPECT_EQ(prompt({{"user", "a"}}), "<｜User｜>a");
  EXPECT_EQ(prompt({{"user", "a"}, {"user", "b"}}), "<｜User｜>a<｜Assistant｜></think><｜User｜>b");
  EXPECT_EQ(prompt({{"developer", "a"}}), "<｜User｜>\n\n# The user's message is: a");
  const ChatMessage calls = {"assistant", "", "", {{"f", "{}"}}};
  EXPECT_THAT(prompt({calls, {"tool", "r"}}), EndsWith("\n<result>r</result>\n</function_results>"));
}

TEST(ChatDeepSeekV32, AFinalMessageIsContinuedWhereItEnds) {
  const auto prompt = [](const ChatMessage& last, Mode mode) {
    return EncodeDeepSeekV32Chat(
        Messages{{"user", "a"}, last},
        {.mode = mode, .add_default_bos_token = false, .continue_final_message = true});
  };
  EXPECT_EQ(prompt({"assistant", "b"}, Mode::kChat), "<｜User｜>a<｜Assistant｜></think>b");
  EXPECT_EQ(prompt({"assistant", "b", "why"}, Mode::kThinking),
            "<｜User｜>a<｜Assistant｜><think>why</think>b");
  EXPECT_EQ(prompt({"assistant", "", "why"}, Mode::kThinking), "<｜User｜>a<｜Assistant｜><think>why");
  const std::string needs = "continue_final_message needs a last message with the role 'assistant'";
  for (const ChatMessage& last :
       {ChatMessage{"user", "b"}, ChatMessage{"assistant", "", "", {{"f", "{}"}}}}) {
    EXPECT_THAT(Refusal(ErrorKind::kBadRequest, [&] { prompt(last, Mode::kChat); }), HasSubstr(needs));
  }
}

TEST(ChatDeepSeekV32, RefusesBySentence) {
  const auto refused = [](const Messages& messages, Mode mode) {
    return Refusal(ErrorKind::kBadRequest, [&] { Prompt(messages, mode); });
  };
  const ChatMessage call = {"assistant", "", "", {{"f", "{}"}}};
  EXPECT_THAT(refused({{"user", "a"}, {"tool", "b"}}, Mode::kChat),
              HasSubstr("messages[1] is a tool result without an assistant message before it"));
  EXPECT_THAT(refused({{"tool", "b"}}, Mode::kChat), HasSubstr("messages[0] is a tool result without"));
  EXPECT_THAT(refused({{"user", "a"}, call, {"tool", "b"}, {"tool", "c"}}, Mode::kChat),
              HasSubstr("messages[3] is the tool result number 2 of messages[1], which has 1 tool calls"));
  EXPECT_THAT(refused({{"assistant", "", "", {{"f", "[1]"}}}}, Mode::kChat),
              HasSubstr("messages[0].tool_calls[0].function.arguments is not a JSON object"));
  EXPECT_THAT(refused({{"developer", ""}}, Mode::kChat), HasSubstr("'developer' and no content"));
  EXPECT_THAT(refused({{"developer", "a"}, {"user", "b"}}, Mode::kThinking),
              HasSubstr("messages[0] has the role 'developer' and stands before the last user message"));
  EXPECT_THAT(refused({{"user", "b", "", {{"f", "{}"}}}}, Mode::kChat), HasSubstr("has tool_calls and"));
  EXPECT_THAT(refused({{"user", "b", "", {}, {"{}"}}}, Mode::kChat), HasSubstr("has tools and"));
  EXPECT_THAT(refused({{"user", "b", "", {}, {}, "{}"}}, Mode::kChat), HasSubstr("has response_format and"));
  EXPECT_THAT(refused({{"User", "b", ""}}, Mode::kChat),
              HasSubstr("messages[0] has the unknown role 'User'"));
  EXPECT_THAT(refused({{"user", "b", "why"}}, Mode::kChat), HasSubstr("only an assistant message"));
  EXPECT_THAT(
      refused({{"user", "a", ""}, {"assistant", "b", ""}}, Mode::kThinking),
      HasSubstr("messages[1] is an assistant message after the last user message without reasoning_content"));
}

std::string TextOf(const nlohmann::ordered_json& message, const char* name) {
  const auto found = message.find(name);
  return found == message.end() || found->is_null() ? "" : found->get<std::string>();
}

ChatMessage MessageOf(const nlohmann::ordered_json& recorded) {
  ChatMessage message = {TextOf(recorded, "role"), TextOf(recorded, "content"),
                         TextOf(recorded, "reasoning_content")};
  if (recorded.contains("tool_calls")) {
    for (const auto& call : recorded["tool_calls"]) {
      message.tool_calls.push_back({call["function"]["name"], call["function"]["arguments"]});
    }
  }
  if (recorded.contains("tools")) {
    for (const auto& tool : recorded["tools"]) message.tools.push_back(tool["function"].dump());
  }
  if (recorded.contains("response_format")) message.response_format = recorded["response_format"].dump();
  return message;
}

// Prompts and errors of a widely used copy of the official encoder.
TEST(ChatDeepSeekV32, EqualsTheRecordedPrompts) {
  const auto path = EncodingCases();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const auto cases = nlohmann::ordered_json::parse(ReadWhole(path));
  int compared = 0;
  int refused = 0;
  for (const auto& recorded : cases["encode"]) {
    SCOPED_TRACE(recorded["name"]);
    Messages messages;
    for (const auto& message : recorded["messages"]) messages.push_back(MessageOf(message));
    const DeepSeekV32ChatOptions options = {
        .mode = recorded["thinking_mode"] == "thinking" ? Mode::kThinking : Mode::kChat,
        .drop_thinking = recorded["drop_thinking"]};
    if (recorded.contains("error")) {
      EXPECT_NE(Refusal(ErrorKind::kBadRequest, [&] { EncodeDeepSeekV32Chat(messages, options); }), "");
      ++refused;
    } else {
      EXPECT_EQ(EncodeDeepSeekV32Chat(messages, options), recorded["prompt"]);
      ++compared;
    }
  }
  EXPECT_EQ(compared, 74);
  EXPECT_EQ(refused, 1);
}

}  // namespace
}  // namespace sluice::text
