#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "serve/errors.h"
#include "serve/json_body.h"
#include "serve/parse_request.h"
#include "serve/parse_tools.h"
#include "serve/request_limits.h"

namespace sluice::serve {
namespace {

using simdjson::dom::element;

constexpr const char* kRoles = "system, developer, user, assistant or tool";

// A string, or a list of text parts, which are joined without a separator.
std::string ParseContent(FieldReader& message, std::vector<std::string>& ignored) {
  const auto value = message.Any("content");
  if (!value) message.Missing("content", "a string or a list of text parts");
  if (value->is_string()) return std::string(TextOf(*value));
  if (!value->is_array()) message.WrongType("content", "a string or a list of text parts", *value);
  std::string content;
  std::size_t index = 0;
  for (const element item : ArrayOf(*value)) {
    const std::string path = fmt::format("{}[{}]", message.Path("content"), index);
    if (++index > kMaxContentParts) {
      throw ApiError(
          Refusal::kInvalidValue,
          fmt::format("{} has more than {} parts; join them", message.Path("content"), kMaxContentParts),
          message.Path("content"));
    }
    if (!item.is_object()) {
      throw ApiError(Refusal::kInvalidType,
                     fmt::format("{} is {}; it must be an object with type and text", path, KindOf(item)),
                     path);
    }
    FieldReader part(ObjectOf(item), path + ".");
    const auto type = part.String("type");
    if (!type) part.Missing("type", "\"text\"");
    if (*type != "text") part.Unsupported("type", "only parts of type \"text\" can be read by this model");
    const auto text = part.String("text");
    if (!text) part.Missing("text", "a string");
    content += *text;
    for (std::string& name : part.Unread()) ignored.push_back(std::move(name));
  }
  return content;
}

// `content`, which may be absent or null where it is optional.
std::string ParseContentUnless(bool optional, FieldReader& message, std::vector<std::string>& ignored) {
  if (optional && !message.Any("content")) return "";
  return ParseContent(message, ignored);
}

Turn ParseTurn(element value, std::size_t index, std::vector<std::string>& ignored) {
  const std::string path = fmt::format("messages[{}]", index);
  if (!value.is_object()) {
    throw ApiError(Refusal::kInvalidType,
                   fmt::format("{} is {}; it must be an object with role and content", path, KindOf(value)),
                   path);
  }
  FieldReader fields(ObjectOf(value), path + ".");
  Turn turn;
  const auto role = fields.String("role");
  if (!role) fields.Missing("role", kRoles);
  if (*role == "function") fields.Unsupported("role", "send the result of a call as a tool turn");
  if (*role != "system" && *role != "developer" && *role != "user" && *role != "assistant" &&
      *role != "tool") {
    throw ApiError(Refusal::kInvalidValue,
                   fmt::format("{} is \"{}\"; it must be {}", fields.Path("role"), Quoted(*role), kRoles),
                   fields.Path("role"));
  }
  for (const std::string_view name : {"function_call", "audio"}) {
    if (fields.Any(name)) fields.Unsupported(name, "leave it out");
  }
  turn.message.role = *role;
  const bool assistant = *role == "assistant";
  if (assistant) {
    const auto reasoning = fields.String("reasoning_content");
    turn.message.reasoning_content = reasoning.value_or("");
    turn.message.empty_reasoning = reasoning && reasoning->empty();
    ParseToolCalls(fields, turn, ignored);
  } else if (fields.Any("tool_calls")) {
    fields.Unsupported("tool_calls", "only an assistant's turn has it");
  }
  if (*role == "tool") turn.result_of = fields.String("tool_call_id").value_or("");
  // An answer that ended before its content has null there, and comes back as it was, perhaps without its
  // reasoning.
  const bool optional = assistant && (fields.IsNull("content") || !turn.message.tool_calls.empty() ||
                                      !turn.message.reasoning_content.empty());
  turn.message.content = ParseContentUnless(optional, fields, ignored);
  for (std::string& name : fields.Unread()) ignored.push_back(std::move(name));
  return turn;
}

std::vector<Turn> ParseTurns(FieldReader& fields, std::vector<std::string>& ignored) {
  const auto messages = fields.Array("messages");
  if (!messages) fields.Missing("messages", "a list of turns");
  std::vector<Turn> turns;
  for (const element item : *messages) {
    if (turns.size() == kMaxMessages) {
      throw ApiError(Refusal::kInvalidValue, fmt::format("messages has more than {} turns", kMaxMessages),
                     "messages");
    }
    turns.push_back(ParseTurn(item, turns.size(), ignored));
  }
  if (turns.empty()) {
    throw ApiError(Refusal::kInvalidValue, "messages is empty; send at least one turn", "messages");
  }
  return turns;
}

// OpenAI's developer speaks in the place of the system; DeepSeek's speaks in the place of the user, last. So
// a developer that a user or another developer follows is a system turn.
void PlaceDevelopers(std::vector<Turn>& turns) {
  bool last = true;
  for (std::size_t i = turns.size(); i-- > 0;) {
    std::string& role = turns[i].message.role;
    if (role != "user" && role != "developer") continue;
    if (!last && role == "developer") role = "system";
    last = false;
  }
}

// Whether the answer begins with reasoning, by the names that clients have for it, and what else the model's
// template has arguments for. Of these only the ones named here; an open list would be a door into a
// template.
void ParseThinking(FieldReader& fields, ChatRequest& request) {
  const bool glm = text::IsGlm(request.dialect.style);
  std::optional<bool> thinking;
  const auto say = [&thinking](std::optional<bool> value, const char* param) {
    if (!value) return;
    if (thinking && *thinking != *value) {
      throw ApiError(Refusal::kInvalidValue,
                     fmt::format("{} contradicts another field that says whether to think; send one of "
                                 "chat_template_kwargs.thinking, enable_thinking and reasoning_effort",
                                 param),
                     param);
    }
    thinking = value;
  };
  const auto say_effort = [&](const std::optional<std::string>& effort, const char* param) {
    if (!effort) return;
    constexpr std::array kEfforts{"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    const auto* const found = std::ranges::find(kEfforts, *effort);
    if (found == kEfforts.end()) {
      throw ApiError(Refusal::kInvalidValue,
                     fmt::format("reasoning_effort is \"{}\"; it must be one of {}", Quoted(*effort),
                                 fmt::join(kEfforts, ", ")),
                     param);
    }
    say(*effort != "none", param);
    request.high_effort = found <= std::ranges::find(kEfforts, std::string_view("high"));
  };
  if (const auto arguments = fields.Object("chat_template_kwargs")) {
    FieldReader inner(*arguments, "chat_template_kwargs.");
    say(inner.Bool("thinking"), "chat_template_kwargs");
    say(inner.Bool("enable_thinking"), "chat_template_kwargs");
    if (glm) request.clear_thinking = inner.Bool("clear_thinking").value_or(true);
    if (request.dialect.style == text::ChatStyle::kGlm52) {
      say_effort(inner.String("reasoning_effort"), "chat_template_kwargs");
    }
    const auto unknown = inner.Unread();
    if (!unknown.empty()) {
      throw ApiError(Refusal::kUnsupportedParameter,
                     fmt::format("{} is not an argument of this model's chat encoding; it has only thinking, "
                                 "also named enable_thinking{}",
                                 Quoted(unknown.front()),
                                 request.dialect.style == text::ChatStyle::kGlm52
                                     ? ", clear_thinking and reasoning_effort"
                                 : glm ? ", and clear_thinking"
                                       : ""),
                     "chat_template_kwargs");
    }
  }
  say_effort(fields.String("reasoning_effort"), "reasoning_effort");
  request.thinking = thinking.value_or(glm);
}

void ParsePromptEnd(FieldReader& fields, ChatRequest& request) {
  request.continue_final_message = fields.Bool("continue_final_message").value_or(false);
  const auto opens = fields.Bool("add_generation_prompt");
  request.add_generation_prompt = opens.value_or(true);
  if (request.continue_final_message && opens.value_or(false)) {
    throw ApiError(Refusal::kInvalidValue,
                   "continue_final_message goes on with the last message and add_generation_prompt begins "
                   "another; send one of them",
                   "continue_final_message");
  }
}

}  // namespace

ChatRequest ParseChat(simdjson::dom::object body, int64_t vocab_size, const ChatDialect& dialect,
                      bool needs_model) {
  FieldReader fields(body);
  ChatRequest request;
  request.dialect = dialect;
  ParseCommon(fields, true, vocab_size, request, needs_model);
  ParseThinking(fields, request);
  request.separate_reasoning = fields.Bool("separate_reasoning").value_or(true);
  request.include_reasoning = fields.Bool("include_reasoning").value_or(true);
  ParsePromptEnd(fields, request);
  if (fields.Bool("echo").value_or(false)) fields.Unsupported("echo", "leave it out or send false");
  const bool logprobs = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs");
  if (top && !logprobs) {
    throw ApiError(Refusal::kInvalidValue, "top_logprobs needs logprobs: true", "top_logprobs");
  }
  if (logprobs) request.top_logprobs = static_cast<int32_t>(top.value_or(0));

  std::vector<Turn> turns = ParseTurns(fields, request.ignored_fields);
  OrderToolResults(turns);
  if (!text::IsGlm(dialect.style)) PlaceDevelopers(turns);
  for (Turn& turn : turns) request.messages.push_back(std::move(turn.message));
  ParseTools(fields, request);
  for (std::string& name : fields.Unread()) request.ignored_fields.push_back(std::move(name));
  return request;
}

}  // namespace sluice::serve
