#include "text/chat_deepseek_v32.h"

#include <cstddef>
#include <string_view>

#include "base/error.h"
#include "text/deepseek_v32_texts.h"
#include "text/python_json.h"

namespace sluice::text {
namespace {

bool IsUserLike(const ChatMessage& message) { return message.role == "user" || message.role == "developer"; }

void CheckMembers(std::ptrdiff_t index, const ChatMessage& message) {
  const std::string& role = message.role;
  const auto only = [&](bool present, const char* member, const char* owners, bool allowed) {
    if (present && !allowed) {
      Fail(ErrorKind::kBadRequest, "messages[{}] has {} and the role '{}'; only {} may have it.", index,
           member, role, owners);
    }
  };
  const bool assistant = role == "assistant";
  const bool instructs = role == "system" || role == "developer";
  only(!message.reasoning_content.empty(), "reasoning_content", "an assistant message", assistant);
  only(!message.tool_calls.empty(), "tool_calls", "an assistant message", assistant);
  only(!message.tools.empty(), "tools", "a system or developer message", instructs);
  only(!message.response_format.empty(), "response_format", "a system or developer message", instructs);
}

std::string Replaced(std::string_view text, std::string_view place, std::string_view with) {
  const std::size_t at = text.find(place);
  return std::string(text.substr(0, at)).append(with).append(text.substr(at + place.size()));
}

class DeepSeekV32Encoder {
 public:
  DeepSeekV32Encoder(std::span<const ChatMessage> messages, const DeepSeekV32ChatOptions& options)
      : messages_(messages),
        options_(options),
        thinking_(options.mode == DeepSeekV32ChatOptions::Mode::kThinking) {
    for (std::size_t i = 0; i < messages.size(); ++i) {
      CheckMembers(Named(i), messages[i]);
      if (IsUserLike(messages[i])) last_user_ = static_cast<std::ptrdiff_t>(i);
    }
  }

  std::string Encode() {
    if (options_.add_default_bos_token) prompt_ += kBeginOfSentence;
    for (std::size_t i = 0; i < messages_.size(); ++i) Write(i);
    return std::move(prompt_);
  }

 private:
  void Write(std::size_t index) {
    const ChatMessage& message = messages_[index];
    if (message.role == "system") {
      prompt_ += message.content;
      WriteInstructions(index);
    } else if (message.role == "user") {
      prompt_.append(kUserMark).append(message.content);
      Open(index, index == static_cast<std::size_t>(last_user_), kAssistantMark);
    } else if (message.role == "developer") {
      WriteDeveloper(index);
    } else if (message.role == "assistant") {
      WriteAssistant(index);
    } else if (message.role == "tool") {
      WriteResult(index);
    } else {
      Fail(ErrorKind::kBadRequest,
           "messages[{}] has the unknown role '{}'; supported are system, developer, user, assistant and "
           "tool.",
           Named(index), message.role);
    }
  }

  // How refusals call messages_[index].
  std::ptrdiff_t Named(std::size_t index) const {
    return static_cast<std::ptrdiff_t>(index) + options_.first_index;
  }
  bool Last(std::size_t index) const { return index + 1 == messages_.size(); }
  bool AfterLastUser(std::size_t index) const { return static_cast<std::ptrdiff_t>(index) > last_user_; }

  // Where the assistant's turn begins.
  void Open(std::size_t index, bool current, std::string_view mark) {
    if (Last(index) && !options_.add_generation_prompt) return;
    prompt_.append(mark).append(thinking_ && current ? kThinkOpen : kThinkClose);
  }

  void WriteInstructions(std::size_t index) {
    const ChatMessage& message = messages_[index];
    if (!message.tools.empty()) {
      std::string schemas;
      for (std::size_t i = 0; i < message.tools.size(); ++i) {
        if (i > 0) schemas += "\n";
        schemas += PythonJson(message.tools[i], fmt::format("messages[{}].tools[{}]", Named(index), i));
      }
      prompt_ += "\n\n";
      prompt_ += Replaced(kDeepSeekV32ToolsText, "{tool_schemas}", schemas);
    }
    if (!message.response_format.empty()) {
      prompt_ += "\n\n";
      prompt_ += Replaced(
          kDeepSeekV32ResponseFormatText, "{schema}",
          PythonJson(message.response_format, fmt::format("messages[{}].response_format", Named(index))));
    }
  }

  void WriteDeveloper(std::size_t index) {
    const ChatMessage& message = messages_[index];
    if (message.content.empty()) {
      Fail(ErrorKind::kBadRequest, "messages[{}] has the role 'developer' and no content; send some.",
           Named(index));
    }
    // The official encoder drops the message here and then fails, for its indices no longer fit.
    if (thinking_ && options_.drop_thinking && static_cast<std::ptrdiff_t>(index) < last_user_) {
      Fail(ErrorKind::kBadRequest,
           "messages[{}] has the role 'developer' and stands before the last user message, where thinking "
           "mode drops it; send it with the role 'system'.",
           Named(index));
    }
    prompt_ += kUserMark;
    WriteInstructions(index);
    prompt_.append("\n\n").append(kDeveloperIntro).append(message.content);
    Open(index, index == static_cast<std::size_t>(last_user_), kAssistantMark);
  }

  void WriteAssistant(std::size_t index) {
    const ChatMessage& message = messages_[index];
    const bool continued = options_.continue_final_message && Last(index);
    if (thinking_ && AfterLastUser(index)) {
      if (message.reasoning_content.empty() && message.tool_calls.empty()) {
        Fail(ErrorKind::kBadRequest,
             "messages[{}] is an assistant message after the last user message without reasoning_content and "
             "tool_calls; in thinking mode it needs one.",
             Named(index));
      }
      prompt_ += message.reasoning_content;
      if (continued && message.content.empty()) return;
      prompt_ += kThinkClose;
    }
    prompt_ += message.content;
    if (continued) return;
    if (!message.tool_calls.empty()) {
      prompt_.append("\n\n").append(
          DeepSeekV32Calls(message.tool_calls, fmt::format("messages[{}]", Named(index))));
    }
    prompt_ += kEndOfSentence;
  }

  void WriteResult(std::size_t index) {
    std::size_t order = 1;
    while (order <= index && messages_[index - order].role == "tool") ++order;
    if (order > index || messages_[index - order].role != "assistant") {
      Fail(ErrorKind::kBadRequest, "messages[{}] is a tool result without an assistant message before it.",
           Named(index));
    }
    const std::size_t calls = messages_[index - order].tool_calls.size();
    if (order > calls) {
      Fail(ErrorKind::kBadRequest,
           "messages[{}] is the tool result number {} of messages[{}], which has {} tool calls.",
           Named(index), order, Named(index - order), calls);
    }
    if (order == 1) prompt_.append("\n\n").append(kResultsOpen);
    prompt_.append("\n").append(kResultOpen).append(messages_[index].content).append(kResultClose);
    if (order == calls) {
      prompt_.append("\n").append(kResultsClose);
      Open(index, AfterLastUser(index), "\n\n");
    }
  }

  std::span<const ChatMessage> messages_;
  const DeepSeekV32ChatOptions& options_;
  bool thinking_;
  std::ptrdiff_t last_user_ = -1;
  std::string prompt_;
};

}  // namespace

std::string EncodeDeepSeekV32Chat(std::span<const ChatMessage> messages,
                                  const DeepSeekV32ChatOptions& options) {
  if (options.continue_final_message) {
    if (messages.empty() || messages.back().role != "assistant" || !messages.back().tool_calls.empty()) {
      Fail(ErrorKind::kBadRequest,
           "continue_final_message needs a last message with the role 'assistant' and without tool_calls.");
    }
  }
  return DeepSeekV32Encoder(messages, options).Encode();
}

std::string DeepSeekV32Calls(std::span<const ToolCall> calls, const std::string& where) {
  std::string text(kCallsOpen);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    text += fmt::format("\n{} name=\"{}\">\n", kInvokeOpen, calls[i].name);
    const auto members =
        PythonJsonMembers(calls[i].arguments, fmt::format("{}.tool_calls[{}].function.arguments", where, i));
    for (std::size_t k = 0; k < members.size(); ++k) {
      if (k > 0) text += "\n";
      text += fmt::format("{} name=\"{}\" string=\"{}\">{}{}", kParameterOpen, members[k].key,
                          members[k].is_string, members[k].value, kParameterClose);
    }
    text.append("\n").append(kInvokeClose);
  }
  return text.append("\n").append(kCallsClose);
}

}  // namespace sluice::text
