#include "text/chat_deepseek_v32.h"

#include <cstddef>
#include <string_view>

#include "base/error.h"

namespace sluice::text {
namespace {

constexpr std::string_view kBeginOfSentence = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEndOfSentence = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";
constexpr std::string_view kThinkOpen = "<think>";
constexpr std::string_view kThinkClose = "</think>";

void CheckMessage(std::size_t index, const ChatMessage& message) {
  const std::string& role = message.role;
  if (role == "tool" || role == "developer") {
    Fail(ErrorKind::kBadRequest,
         "messages[{}] has the role '{}', which like tools is left to a later version; supported are system, "
         "user "
         "and assistant.",
         index, role);
  }
  if (role != "system" && role != "user" && role != "assistant") {
    Fail(ErrorKind::kBadRequest,
         "messages[{}] has the unknown role '{}'; supported are system, user and assistant.", index, role);
  }
  if (role != "assistant" && !message.reasoning_content.empty()) {
    Fail(ErrorKind::kBadRequest,
         "messages[{}] has reasoning_content and the role '{}'; only an assistant message may have it.",
         index, role);
  }
}

std::ptrdiff_t LastUser(std::span<const ChatMessage> messages) {
  auto at = static_cast<std::ptrdiff_t>(messages.size()) - 1;
  while (at >= 0 && messages[static_cast<std::size_t>(at)].role != "user") --at;
  return at;
}

}  // namespace

std::string EncodeDeepSeekV32Chat(std::span<const ChatMessage> messages,
                                  const DeepSeekV32ChatOptions& options) {
  for (std::size_t i = 0; i < messages.size(); ++i) CheckMessage(i, messages[i]);
  const bool thinking = options.mode == DeepSeekV32ChatOptions::Mode::kThinking;
  const std::ptrdiff_t last_user = LastUser(messages);

  std::string prompt;
  if (options.add_default_bos_token) prompt += kBeginOfSentence;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    const auto index = static_cast<std::ptrdiff_t>(i);
    if (message.role == "system") {
      prompt += message.content;
    } else if (message.role == "user") {
      prompt.append(kUser).append(message.content).append(kAssistant);
      prompt += thinking && index == last_user ? kThinkOpen : kThinkClose;
    } else {
      if (thinking && index > last_user) {
        if (message.reasoning_content.empty()) {
          Fail(ErrorKind::kBadRequest,
               "messages[{}] is an assistant message after the last user message without reasoning_content; "
               "in thinking mode it needs one.",
               i);
        }
        prompt.append(message.reasoning_content).append(kThinkClose);
      }
      prompt.append(message.content).append(kEndOfSentence);
    }
  }
  return prompt;
}

}  // namespace sluice::text
