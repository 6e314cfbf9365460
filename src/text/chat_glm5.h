#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "text/chat_message.h"
#include "text/chat_style.h"

namespace sluice::text {

struct Glm5ChatOptions {
  ChatStyle style = ChatStyle::kGlm52;  // one of the three
  // The model reasons first: the prompt ends with <think>.
  bool enable_thinking = true;
  // Leave out what was thought before the last message of a user. The templates do so unless told otherwise.
  bool clear_thinking = true;
  // GLM-5.2 with thinking: "Reasoning Effort: High" in place of "Max".
  bool high_effort = false;
  // Without it a prompt ends with its last message.
  bool add_generation_prompt = true;
  // The last message, an assistant's without tool calls, is to be continued: white space at its end stays,
  // and with thinking one without content is continued inside its reasoning. Then add_generation_prompt says
  // nothing.
  bool continue_final_message = false;
  // The index that the first message has in refusals.
  std::ptrdiff_t first_index = 0;
};

// The prompt text of a conversation as the official chat templates of GLM-5, 5.1 and 5.2 render it. To be
// tokenised with parse_special. No white space between turns, no mark at the end of one:
//   [gMASK]<sop>
//   5.2        with thinking: <|system|>Reasoning Effort: Max (or High)
//   tools      <|system|> and the tools text, each function one JSON a line; 5 writes OpenAI's envelope
//              {"type": "function", "function": ..} around it, 5.1 and 5.2 leave out the members
//              `defer_loading` and `strict`, and functions with a true defer_loading altogether
//   system     <|system|> content; a developer the same
//   user       <|user|> content
//   assistant  <|assistant|>, [<think> reasoning </think>], content without white space around it, the calls
//   tool       <|observation|> before the first of a run, <tool_response> content </tool_response>
// Reasoning is reasoning_content, or where there is none what stands before </think> in the content. It is
// written after the last user, and everywhere without clear_thinking. Where none is written
//   5          </think>
//   5.1        </think>; <think></think> after the last user with thinking, and without clear_thinking also
//              before it, when another answer to the same user has a reasoning_content
//   5.2        <think></think>
// The generation prompt is <|assistant|>, and <think> with thinking, else </think> (5.2: <think></think>).
// Error(kBadRequest), naming the message by its index: another role; reasoning or calls of a role that has
// none; arguments that are no JSON object; a function that is none.
std::string EncodeGlm5Chat(std::span<const std::string> tools, std::span<const ChatMessage> messages,
                           const Glm5ChatOptions& options);

// Whether that prompt ends inside reasoning, which the model goes on with.
bool Glm5EndsInReasoning(std::span<const ChatMessage> messages, const Glm5ChatOptions& options);

// The markup of calls as an assistant writes it. `where` names the calls' owner in refusals.
std::string Glm5Calls(std::span<const ToolCall> calls, const std::string& where);

}  // namespace sluice::text
