#pragma once

#include <span>
#include <string>

namespace sluice::text {

// One message of a conversation. An absent (null) content or reasoning is the empty string.
struct ChatMessage {
  std::string role;               // system, user or assistant
  std::string content;            // UTF-8, written into the prompt as it is
  std::string reasoning_content;  // assistant only: what stood before </think>
};

struct DeepSeekV32ChatOptions {
  enum class Mode {
    kChat,      // the model answers at once: the prompt ends with </think>
    kThinking,  // the model reasons first: the prompt ends with <think>
  };
  Mode mode = Mode::kChat;
  // Leave out the reasoning of assistant messages before the last user message. With the roles supported here
  // such reasoning is not written in either case, so both values give one prompt.
  bool drop_thinking = true;
  // Begin with <｜begin▁of▁sentence｜>.
  bool add_default_bos_token = true;
};

// The prompt text of a conversation in the native encoding of DeepSeek-V3.2 (encoding_dsv32.py, which comes
// with the checkpoint; V3.2 has no chat template). To be tokenised with parse_special. Rules:
//   system     content
//   user       <｜User｜> content <｜Assistant｜>, then <think> for the last user message in thinking mode,
//   else </think> assistant  [reasoning </think>, in thinking mode after the last user message] content
//   <｜end▁of▁sentence｜>
// Error(kBadRequest), naming the message by its index: a role other than these three, reasoning_content in
// another role than assistant, or, in thinking mode after the last user message, an assistant message without
// reasoning.
std::string EncodeDeepSeekV32Chat(std::span<const ChatMessage> messages,
                                  const DeepSeekV32ChatOptions& options);

}  // namespace sluice::text
