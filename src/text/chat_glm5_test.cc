#include "text/chat_glm5.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "text/chat_style.h"
#include "text/test_support.h"

namespace sluice::text {
namespace {

using Messages = std::vector<ChatMessage>;
using ::testing::EndsWith;
using ::testing::HasSubstr;

ChatMessage GlmMessageOf(const nlohmann::json& json) {
  ChatMessage message{json["role"], json["content"]};
  if (json.contains("reasoning_content")) {
    message.reasoning_content = json["reasoning_content"];
    message.empty_reasoning = message.reasoning_content.empty();
  }
  if (json.contains("tool_calls")) {
    for (const auto& call : json["tool_calls"]) {
      message.tool_calls.push_back({call["name"], call["arguments"]});
    }
  }
  return message;
}

// What the official templates make of 300 conversations (tests/golden/chat/make_glm5_cases.py);
// SLUICE_GLM5_CASES names a file with more of them.
TEST(ChatGlm5, EqualsTheOfficialTemplates) {
  const char* named = std::getenv("SLUICE_GLM5_CASES");
  const auto cases =
      nlohmann::json::parse(ReadWhole(named != nullptr ? std::filesystem::path(named)
                                                       : std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" /
                                                             "golden" / "chat" / "glm5_cases.json"));
  std::map<std::string, int> compared;
  for (const auto& recorded : cases) {
    const auto& said = recorded["options"];
    const Glm5ChatOptions options{.style = ChatStyleNamed(recorded["style"].get<std::string>()).value(),
                                  .enable_thinking = said.value("enable_thinking", true),
                                  .clear_thinking = said.value("clear_thinking", true),
                                  .high_effort = said.value("reasoning_effort", "") == "high",
                                  .add_generation_prompt = said["add_generation_prompt"].get<bool>()};
    Messages messages;
    for (const auto& message : recorded["messages"]) messages.push_back(GlmMessageOf(message));
    EXPECT_EQ(EncodeGlm5Chat(recorded["tools"].get<std::vector<std::string>>(), messages, options),
              recorded["prompt"].get<std::string>())
        << recorded.dump();
    ++compared[recorded["style"]];
  }
  for (const char* style : {"glm-5", "glm-5.1", "glm-5.2"}) EXPECT_GE(compared[style], 100) << style;
}

std::string GlmPrompt(ChatStyle style, const Messages& messages, Glm5ChatOptions options = {}) {
  options.style = style;
  return EncodeGlm5Chat({}, messages, options);
}

TEST(ChatGlm5, HowThePromptEnds) {
  const Messages hello = {{"user", "hi"}};
  EXPECT_EQ(GlmPrompt(ChatStyle::kGlm5, hello), "[gMASK]<sop><|user|>hi<|assistant|><think>");
  EXPECT_EQ(GlmPrompt(ChatStyle::kGlm51, hello, {.enable_thinking = false}),
            "[gMASK]<sop><|user|>hi<|assistant|></think>");
  EXPECT_EQ(GlmPrompt(ChatStyle::kGlm52, hello, {.high_effort = true}),
            "[gMASK]<sop><|system|>Reasoning Effort: High<|user|>hi<|assistant|><think>");
  EXPECT_EQ(GlmPrompt(ChatStyle::kGlm52, hello, {.enable_thinking = false}),
            "[gMASK]<sop><|user|>hi<|assistant|><think></think>");
}

// OpenAI's developer speaks in the place of the system; the templates leave the role out.
TEST(ChatGlm5, ADeveloperIsASystem) {
  EXPECT_EQ(GlmPrompt(ChatStyle::kGlm5, {{"developer", "d"}, {"user", "u"}}),
            GlmPrompt(ChatStyle::kGlm5, {{"system", "d"}, {"user", "u"}}));
}

TEST(ChatGlm5, AFinalMessageIsContinuedWhereItEnds) {
  const auto end = [](ChatStyle style, const ChatMessage& last, bool thinking) {
    return GlmPrompt(style, {{"user", "a"}, last},
                     {.enable_thinking = thinking, .continue_final_message = true})
        .substr(std::string_view("[gMASK]<sop>").size());
  };
  EXPECT_EQ(end(ChatStyle::kGlm5, {"assistant", " b "}, false), "<|user|>a<|assistant|></think>b ");
  EXPECT_EQ(end(ChatStyle::kGlm51, {"assistant", "b", "why"}, true),
            "<|user|>a<|assistant|><think>why</think>b");
  EXPECT_THAT(end(ChatStyle::kGlm52, {"assistant", "", "why"}, true), EndsWith("<|assistant|><think>why"));
  EXPECT_THAT(end(ChatStyle::kGlm52, {"assistant", ""}, false), EndsWith("<|assistant|><think></think>"));
  EXPECT_THAT(Refusal(ErrorKind::kBadRequest,
                      [&] {
                        end(ChatStyle::kGlm5, {"user", "b"}, true);
                      }),
              HasSubstr("continue_final_message needs a last message"));
}

TEST(ChatGlm5, RefusesByTheMessagesIndex) {
  const auto refused = [](const Messages& messages) {
    return Refusal(ErrorKind::kBadRequest, [&] { GlmPrompt(ChatStyle::kGlm52, messages); });
  };
  EXPECT_THAT(refused({{"user", "a"}, {"critic", "b"}}), HasSubstr("messages[1] has the unknown role"));
  EXPECT_THAT(refused({{"user", "a", "why"}}), HasSubstr("messages[0] has reasoning_content and the role"));
  EXPECT_THAT(refused({{"tool", "a", "", {{"f", "{}"}}}}), HasSubstr("messages[0] has tool_calls"));
  EXPECT_THAT(refused({{"assistant", "a", "", {{"f", "[]"}}}}),
              HasSubstr("messages[0].tool_calls[0].function.arguments"));
  EXPECT_THAT(
      Refusal(ErrorKind::kBadRequest, [] { EncodeGlm5Chat(std::vector<std::string>{"[]"}, Messages{}, {}); }),
      HasSubstr("tools[0].function"));
}

TEST(ChatStyle, TheArchitectureAndTheTemplateTell) {
  const auto style = [](std::optional<std::string> chat_template, const char* config = "{}") {
    return ChatStyleOf("GlmMoeDsaForCausalLM", chat_template, config);
  };
  EXPECT_EQ(ChatStyleOf("DeepseekV32ForCausalLM", "reasoning_effort", "{}").style, ChatStyle::kDeepSeekV32);
  // Texts that are none of the official ones are told by their marks, and said to be.
  EXPECT_EQ(style("[gMASK]<sop>").style, ChatStyle::kGlm5);
  EXPECT_EQ(style("[gMASK]<sop>{% set thinking_indices %}").style, ChatStyle::kGlm51);
  EXPECT_EQ(style("[gMASK]<sop>{{ reasoning_effort }}").style, ChatStyle::kGlm52);
  EXPECT_FALSE(style("[gMASK]<sop>{{ reasoning_effort }}").certain);
  EXPECT_THAT(style("{{ messages }}").why, HasSubstr("no [gMASK]<sop>"));
  // Without one the config has to do.
  EXPECT_EQ(style(std::nullopt).style, ChatStyle::kGlm51);
  EXPECT_EQ(style(std::nullopt, R"({"index_topk_freq": 4})").style, ChatStyle::kGlm52);
  EXPECT_EQ(style(std::nullopt, R"({"indexer_types": null})").style, ChatStyle::kGlm51);
  EXPECT_FALSE(style(std::nullopt).certain);
  EXPECT_EQ(TemplateOfTokenizerConfig(R"({"chat_template": "x"})"), "x");
  EXPECT_EQ(TemplateOfTokenizerConfig(R"({"a": 1})"), std::nullopt);
}

// The files of the checkpoints, where SLUICE_GLM5_TEMPLATES names a folder that has them.
TEST(ChatStyle, TheOfficialTemplatesAreKnown) {
  const char* folder = std::getenv("SLUICE_GLM5_TEMPLATES");
  if (folder == nullptr) GTEST_SKIP() << "SLUICE_GLM5_TEMPLATES does not name the official templates";
  const std::vector<std::pair<std::string, ChatStyle>> files = {
      {"5.jinja", ChatStyle::kGlm5}, {"5.1.jinja", ChatStyle::kGlm51}, {"5.2.jinja", ChatStyle::kGlm52}};
  for (const auto& [name, style] : files) {
    const FoundChatStyle found =
        ChatStyleOf("GlmMoeDsaForCausalLM", ReadWhole(std::filesystem::path(folder) / name), "{}");
    EXPECT_TRUE(found.certain) << name;
    EXPECT_EQ(found.style, style) << name;
  }
}

}  // namespace
}  // namespace sluice::text
