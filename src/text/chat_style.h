#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::text {

// The way a conversation becomes a prompt, and what a request may say about it.
enum class ChatStyle {
  kDeepSeekV32,  // chat_deepseek_v32.h
  kGlm5,         // the other three: chat_glm5.h
  kGlm51,
  kGlm52,
};

inline bool IsGlm(ChatStyle style) { return style != ChatStyle::kDeepSeekV32; }

// "deepseek-v3.2", "glm-5", "glm-5.1", "glm-5.2"
std::string_view NameOf(ChatStyle style);
// The style of that name; nullopt: none has it.
std::optional<ChatStyle> ChatStyleNamed(std::string_view name);

struct FoundChatStyle {
  ChatStyle style = ChatStyle::kDeepSeekV32;
  std::string why{};     // a clause for the log
  bool certain = false;  // else the log warns
};

// The style of a checkpoint. GLM-5, 5.1 and 5.2 have one architecture ("GlmMoeDsaForCausalLM") and differ in
// their template, which is compared with the official ones and never run. A text that is none of them is told
// by what only one version has in it; without any, a config.json whose layers share their selection
// (indexer_types, index_topk_freq, index_topk_pattern) is GLM-5.2's and every other one GLM-5.1's.
//   chat_template   of chat_template.jinja, or the member of that name of tokenizer_config.json
//   config          the text of config.json
FoundChatStyle ChatStyleOf(std::string_view architecture, const std::optional<std::string>& chat_template,
                           std::string_view config);

// `chat_template` of the text of a tokenizer_config.json; nullopt when it has none.
std::optional<std::string> TemplateOfTokenizerConfig(std::string_view tokenizer_config);

}  // namespace sluice::text
