#include "text/chat_style.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "text/glm_texts.h"

namespace sluice::text {
namespace {

using SortedJson = nlohmann::json;

constexpr std::array kNames{std::pair{ChatStyle::kDeepSeekV32, std::string_view("deepseek-v3.2")},
                            std::pair{ChatStyle::kGlm5, std::string_view("glm-5")},
                            std::pair{ChatStyle::kGlm51, std::string_view("glm-5.1")},
                            std::pair{ChatStyle::kGlm52, std::string_view("glm-5.2")}};

constexpr uint64_t Fnv1a64(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const char byte : text) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3U;
  return hash;
}

// The official templates without line breaks at their end. Their SHA-256 are in
// tests/golden/chat/make_glm5_cases.py.
struct Official {
  ChatStyle style;
  std::size_t bytes;
  uint64_t hash;
};
constexpr std::array kOfficial{Official{ChatStyle::kGlm5, 3123, 0x9622b0fabe956241U},
                               Official{ChatStyle::kGlm51, 4672, 0x563309789edf6ed2U},
                               Official{ChatStyle::kGlm52, 5075, 0xf0901dfba77f907eU}};

FoundChatStyle ByTemplate(std::string_view text) {
  text = text.substr(0, text.find_last_not_of('\n') + 1);
  const uint64_t hash = Fnv1a64(text);
  for (const Official& official : kOfficial) {
    if (official.bytes == text.size() && official.hash == hash) {
      return {official.style,
              fmt::format("the checkpoint's chat template is {}'s official one", NameOf(official.style)),
              true};
    }
  }
  const auto has = [&](std::string_view mark) { return text.find(mark) != std::string_view::npos; };
  const ChatStyle style = has("reasoning_effort")   ? ChatStyle::kGlm52
                          : has("thinking_indices") ? ChatStyle::kGlm51
                                                    : ChatStyle::kGlm5;
  if (!has(kGlmPrefix)) return {style, "the checkpoint's chat template has no [gMASK]<sop>", false};
  return {style,
          fmt::format("the checkpoint's chat template is none of the official ones, and most like {}'s",
                      NameOf(style)),
          false};
}

bool SharesSelections(std::string_view config) {
  const SortedJson json = SortedJson::parse(config, nullptr, false);
  if (!json.is_object()) return false;
  for (const char* key : {"indexer_types", "index_topk_freq", "index_topk_pattern"}) {
    if (json.contains(key) && !json[key].is_null()) return true;
  }
  return false;
}

}  // namespace

std::string_view NameOf(ChatStyle style) {
  for (const auto& [named, name] : kNames) {
    if (named == style) return name;
  }
  return "";
}

std::optional<ChatStyle> ChatStyleNamed(std::string_view name) {
  for (const auto& [style, named] : kNames) {
    if (named == name) return style;
  }
  return std::nullopt;
}

FoundChatStyle ChatStyleOf(std::string_view architecture, const std::optional<std::string>& chat_template,
                           std::string_view config) {
  if (architecture != "GlmMoeDsaForCausalLM") {
    return {ChatStyle::kDeepSeekV32, "it is this architecture's only one", true};
  }
  if (chat_template) return ByTemplate(*chat_template);
  const bool shares = SharesSelections(config);
  return {shares ? ChatStyle::kGlm52 : ChatStyle::kGlm51,
          fmt::format("the checkpoint has no chat template, and its layers {} their selection",
                      shares ? "share" : "do not share"),
          false};
}

std::optional<std::string> TemplateOfTokenizerConfig(std::string_view tokenizer_config) {
  const SortedJson json = SortedJson::parse(tokenizer_config, nullptr, false);
  if (!json.is_object() || !json.contains("chat_template") || !json["chat_template"].is_string()) {
    return std::nullopt;
  }
  return json["chat_template"].get<std::string>();
}

}  // namespace sluice::text
