#include "text/chat_glm5.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "base/error.h"
#include "text/deepseek_v32_texts.h"
#include "text/glm_texts.h"
#include "text/python_json.h"
#include "text/utf8.h"

namespace sluice::text {
namespace {

// As Python's str.isspace.
bool IsPythonSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// `text` without white space at its beginning and, with `behind`, at its end: str.strip and str.lstrip.
std::string_view Stripped(std::string_view text, bool behind = true) {
  std::size_t begin = text.size();
  std::size_t end = text.size();
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Unit unit = FirstUtf8Unit(text.substr(at));
    const bool space =
        unit.kind == Utf8Unit::Kind::kCharacter && IsPythonSpace(CodePoint(text.substr(at, unit.length)));
    if (!space) {
      begin = std::min(begin, at);
      end = at + unit.length;
    }
    at += unit.length;
  }
  if (!behind) end = text.size();
  return text.substr(begin, end - begin);
}

std::string_view WithoutBreaks(std::string_view text, bool before, bool behind) {
  if (before) text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  if (behind) text = text.substr(0, text.find_last_not_of('\n') + 1);
  return text;
}

// What an assistant's turn has in it.
struct Parts {
  bool has_reasoning = false;
  std::string_view reasoning{};
  std::string_view content{};
};

class Glm5Encoder {
 public:
  Glm5Encoder(std::span<const std::string> tools, std::span<const ChatMessage> messages,
              const Glm5ChatOptions& options)
      : tools_(tools), messages_(messages), options_(options) {
    for (std::size_t i = 0; i < messages.size(); ++i) {
      Check(i);
      if (messages[i].role == "user") {
        last_user_ = static_cast<std::ptrdiff_t>(i);
      } else if (messages[i].role == "assistant" && HasReasoningContent(messages[i])) {
        reasoned_.insert(last_user_);
      }
    }
  }

  std::string Encode() {
    prompt_ += kGlmPrefix;
    if (options_.style == ChatStyle::kGlm52 && options_.enable_thinking) {
      prompt_.append(kGlmSystem).append(kGlmEffort).append(options_.high_effort ? "High" : "Max");
    }
    if (!tools_.empty()) WriteTools();
    for (std::size_t i = 0; i < messages_.size(); ++i) Write(i);
    if (options_.add_generation_prompt && !options_.continue_final_message) {
      prompt_.append(kGlmAssistant).append(options_.enable_thinking ? kThinkOpen : NoThought());
    }
    return std::move(prompt_);
  }

  bool EndsInReasoning() const {
    if (!options_.enable_thinking) return false;
    if (!options_.continue_final_message) return options_.add_generation_prompt;
    return !messages_.empty() && Stripped(PartsOf(messages_.size() - 1).content).empty();
  }

 private:
  static bool HasReasoningContent(const ChatMessage& message) {
    return message.empty_reasoning || !message.reasoning_content.empty();
  }

  // How refusals call messages_[index].
  std::ptrdiff_t Named(std::size_t index) const {
    return static_cast<std::ptrdiff_t>(index) + options_.first_index;
  }

  void Check(std::size_t index) const {
    const ChatMessage& message = messages_[index];
    const auto known = {"system", "developer", "user", "assistant", "tool"};
    if (std::ranges::find(known, message.role) == known.end()) {
      Fail(ErrorKind::kBadRequest,
           "messages[{}] has the unknown role '{}'; supported are system, developer, user, assistant and "
           "tool.",
           Named(index), message.role);
    }
    const bool has = HasReasoningContent(message) || !message.tool_calls.empty();
    if (has && message.role != "assistant") {
      Fail(ErrorKind::kBadRequest,
           "messages[{}] has {} and the role '{}'; only an assistant message may have it.", Named(index),
           message.tool_calls.empty() ? "reasoning_content" : "tool_calls", message.role);
    }
  }

  void WriteTools() {
    prompt_.append(kGlmSystem).append(kGlmToolsBefore);
    for (std::size_t i = 0; i < tools_.size(); ++i) {
      const std::string where = fmt::format("tools[{}].function", i);
      if (options_.style == ChatStyle::kGlm5) {
        prompt_ +=
            fmt::format("{{\"type\": \"function\", \"function\": {}}}\n", PythonJson(tools_[i], where));
        continue;
      }
      std::string function;
      bool deferred = false;
      for (const JsonMember& member : PythonJsonMembers(tools_[i], where)) {
        if (member.key == "defer_loading") {
          // What is not false to Python.
          static constexpr std::string_view kFalse[] = {"false", "null", "0", "0.0", "-0.0", "[]", "{}"};
          deferred = member.is_string ? !member.value.empty()
                                      : std::ranges::find(kFalse, member.value) == std::end(kFalse);
        }
        if (member.key == "defer_loading" || member.key == "strict") continue;
        function += fmt::format("{}\"{}\": {}", function.empty() ? "" : ", ", member.key,
                                member.is_string ? PythonJsonString(member.value) : member.value);
      }
      if (!deferred) prompt_.append("{").append(function).append("}\n");
    }
    prompt_ += kGlmToolsBehind;
  }

  void Write(std::size_t index) {
    const ChatMessage& message = messages_[index];
    if (message.role == "user") {
      prompt_.append(kGlmUser).append(message.content);
      reasoned_here_ = reasoned_.contains(static_cast<std::ptrdiff_t>(index));
    } else if (message.role == "assistant") {
      WriteAssistant(index);
    } else if (message.role == "tool") {
      if (index == 0 || messages_[index - 1].role != "tool") prompt_ += kGlmObservation;
      prompt_.append(kGlmResponseOpen).append(message.content).append(kGlmResponseClose);
    } else {
      prompt_.append(kGlmSystem).append(message.content);
    }
  }

  Parts PartsOf(std::size_t index) const {
    const ChatMessage& message = messages_[index];
    const std::string_view content = message.content;
    if (HasReasoningContent(message)) return {true, message.reasoning_content, content};
    const std::size_t first = content.find(kThinkClose);
    if (first != std::string_view::npos) {
      // 5 leaves out line breaks around what it takes apart.
      const bool strips = options_.style == ChatStyle::kGlm5;
      std::string_view thought = WithoutBreaks(content.substr(0, first), false, strips);
      const std::size_t open = thought.rfind(kThinkOpen);
      if (open != std::string_view::npos) thought.remove_prefix(open + kThinkOpen.size());
      const std::string_view rest = content.substr(content.rfind(kThinkClose) + kThinkClose.size());
      return {true, WithoutBreaks(thought, strips, false), WithoutBreaks(rest, strips, false)};
    }
    const bool after_last_user = static_cast<std::ptrdiff_t>(index) > last_user_;
    return {
        options_.style == ChatStyle::kGlm51 && (after_last_user ? options_.enable_thinking : reasoned_here_),
        "", content};
  }

  std::string_view NoThought() const {
    return options_.style == ChatStyle::kGlm52 ? "<think></think>" : kThinkClose;
  }

  void WriteAssistant(std::size_t index) {
    const ChatMessage& message = messages_[index];
    const bool continued = options_.continue_final_message && index + 1 == messages_.size();
    Parts parts = PartsOf(index);
    prompt_ += kGlmAssistant;
    if (options_.style == ChatStyle::kGlm5) {
      // An empty reasoning is none; what it strips is what it writes.
      parts.has_reasoning = !parts.reasoning.empty();
      parts.reasoning = Stripped(parts.reasoning);
    }
    if (continued && EndsInReasoning()) {
      prompt_.append(kThinkOpen).append(parts.reasoning);
      return;
    }
    const bool kept = !options_.clear_thinking || static_cast<std::ptrdiff_t>(index) > last_user_;
    if (kept && parts.has_reasoning) {
      prompt_.append(kThinkOpen).append(parts.reasoning).append(kThinkClose);
    } else {
      prompt_ += NoThought();
    }
    prompt_ += Stripped(parts.content, !continued);
    prompt_ += Glm5Calls(message.tool_calls, fmt::format("messages[{}]", Named(index)));
  }

  std::span<const std::string> tools_;
  std::span<const ChatMessage> messages_;
  const Glm5ChatOptions& options_;
  std::ptrdiff_t last_user_ = -1;
  std::set<std::ptrdiff_t>
      reasoned_;                // users that an assistant with reasoning_content answers; -1: before all
  bool reasoned_here_ = false;  // the last user written is one of them
  std::string prompt_;
};

}  // namespace

std::string EncodeGlm5Chat(std::span<const std::string> tools, std::span<const ChatMessage> messages,
                           const Glm5ChatOptions& options) {
  SLUICE_CHECK(IsGlm(options.style), "{} is no style of GLM's", NameOf(options.style));
  if (options.continue_final_message) {
    if (messages.empty() || messages.back().role != "assistant" || !messages.back().tool_calls.empty()) {
      Fail(ErrorKind::kBadRequest,
           "continue_final_message needs a last message with the role 'assistant' and without tool_calls.");
    }
  }
  return Glm5Encoder(tools, messages, options).Encode();
}

bool Glm5EndsInReasoning(std::span<const ChatMessage> messages, const Glm5ChatOptions& options) {
  return Glm5Encoder({}, messages, options).EndsInReasoning();
}

std::string Glm5Calls(std::span<const ToolCall> calls, const std::string& where) {
  std::string text;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    text.append(kGlmCallOpen).append(calls[i].name);
    for (const JsonMember& member : PythonJsonMembers(
             calls[i].arguments, fmt::format("{}.tool_calls[{}].function.arguments", where, i))) {
      text.append(kGlmKeyOpen).append(member.key).append(kGlmKeyClose);
      text.append(kGlmValueOpen).append(member.value).append(kGlmValueClose);
    }
    text += kGlmCallClose;
  }
  return text;
}

}  // namespace sluice::text
