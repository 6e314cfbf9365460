#include "text/chat_deepseek_v32.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/test_support.h"

namespace sluice::text {
namespace {

using Mode = DeepSeekV32ChatOptions::Mode;
using Messages = std::vector<ChatMessage>;
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

TEST(ChatDeepSeekV32, RefusesBySentence) {
  const auto refused = [](const Messages& messages, Mode mode) {
    return Refusal(ErrorKind::kBadRequest, [&] { Prompt(messages, mode); });
  };
  EXPECT_THAT(refused({{"user", "a", ""}, {"tool", "b", ""}}, Mode::kChat),
              HasSubstr("messages[1] has the role 'tool', which like tools is left to a later version"));
  EXPECT_THAT(refused({{"developer", "b", ""}}, Mode::kChat),
              HasSubstr("messages[0] has the role 'developer'"));
  EXPECT_THAT(refused({{"User", "b", ""}}, Mode::kChat),
              HasSubstr("messages[0] has the unknown role 'User'"));
  EXPECT_THAT(refused({{"user", "b", "why"}}, Mode::kChat), HasSubstr("only an assistant message"));
  EXPECT_THAT(
      refused({{"user", "a", ""}, {"assistant", "b", ""}}, Mode::kThinking),
      HasSubstr("messages[1] is an assistant message after the last user message without reasoning_content"));
}

// Prompts of a widely used copy of the official encoder. Used are the conversations without tools, response
// formats and the roles developer and tool.
TEST(ChatDeepSeekV32, EqualsTheRecordedPrompts) {
  const auto path =
      std::filesystem::path(SLUICE_SOURCE_DIR) / ".." / "shared" / "data" / "dsv32-encoding" / "cases.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const auto cases = nlohmann::json::parse(ReadWhole(path));
  int compared = 0;
  for (const auto& recorded : cases["encode"]) {
    Messages messages;
    bool supported = true;
    for (const auto& message : recorded["messages"]) {
      for (const auto& [key, value] : message.items()) {
        supported &= key == "role" || key == "content" || key == "reasoning_content";
      }
      messages.push_back(
          {message["role"], message.value("content", ""), message.value("reasoning_content", "")});
      supported &= messages.back().role != "tool" && messages.back().role != "developer";
    }
    if (!supported) continue;
    const DeepSeekV32ChatOptions options = {
        .mode = recorded["thinking_mode"] == "thinking" ? Mode::kThinking : Mode::kChat,
        .drop_thinking = recorded["drop_thinking"]};
    EXPECT_EQ(EncodeDeepSeekV32Chat(messages, options), recorded["prompt"]) << recorded["name"];
    ++compared;
  }
  EXPECT_EQ(compared, 27);
}

}  // namespace
}  // namespace sluice::text
