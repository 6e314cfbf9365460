#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "text/chat_message.h"

namespace sluice::text {

struct DeepSeekV32ChatOptions {
  enum class Mode {
    kChat,      // the model answers at once: the prompt ends with </think>
    kThinking,  // the model reasons first: the prompt ends with <think>
  };
  Mode mode = Mode::kChat;
  // In thinking mode leave out what was thought before the last message of a user. Such reasoning is not
  // written in either case; what differs is that a developer message there is refused with it.
  bool drop_thinking = true;
  // Begin with <｜begin▁of▁sentence｜>.
  bool add_default_bos_token = true;
  // Without it a prompt ends with the content of its last message, and <｜Assistant｜> and the mark of the
  // mode are left out.
  bool add_generation_prompt = true;
  // The last message, an assistant's without tool calls, is to be continued: its end is not written. In
  // thinking mode one with reasoning and without content is continued inside its reasoning.
  bool continue_final_message = false;
  // The index that the first message has in refusals.
  std::ptrdiff_t first_index = 0;
};

// The prompt text of a conversation in the native encoding of DeepSeek-V3.2 (encoding_dsv32.py, which comes
// with the checkpoint; V3.2 has no chat template). To be tokenised with parse_special. With "last user" for
// the last message of a user or developer, rules:
//   system     content, then the tools text and the response format text, if it has them
//   developer  as a user, whose text is: tools, response format, # The user's message is: content
//   user       <｜User｜> content <｜Assistant｜>, then <think> for the last user in thinking mode, else
//              </think>
//   assistant  [reasoning </think>, in thinking mode after the last user] content, the calls,
//   <｜end▁of▁sentence｜> tool       a result of the assistant before it; results belong to calls by
//   position. After the last one
//              <think> in thinking mode after the last user, else </think>
// Error(kBadRequest), naming the message by its index: another role; a member in a role that has it not; in
// thinking mode after the last user, an assistant without reasoning and calls; in thinking mode with
// drop_thinking, a developer before the last user; a developer without content; a result without its call;
// arguments that are no JSON object.
std::string EncodeDeepSeekV32Chat(std::span<const ChatMessage> messages,
                                  const DeepSeekV32ChatOptions& options);

// The markup of calls as an assistant writes it, from <｜DSML｜function_calls> to its end. `where` names the
// calls' owner in refusals.
std::string DeepSeekV32Calls(std::span<const ToolCall> calls, const std::string& where);

}  // namespace sluice::text
