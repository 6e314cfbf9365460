#include <fmt/format.h>

#include "serve/errors.h"
#include "serve/json_body.h"
#include "serve/parse_request.h"
#include "serve/request_limits.h"

namespace sluice::serve {
namespace {

using simdjson::dom::element;

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

text::ChatMessage ParseMessage(element value, std::size_t index, std::vector<std::string>& ignored) {
  const std::string path = fmt::format("messages[{}]", index);
  if (!value.is_object()) {
    throw ApiError(Refusal::kInvalidType,
                   fmt::format("{} is {}; it must be an object with role and content", path, KindOf(value)),
                   path);
  }
  FieldReader fields(ObjectOf(value), path + ".");
  text::ChatMessage message;
  const auto role = fields.String("role");
  if (!role) fields.Missing("role", "system, developer, user or assistant");
  if (*role == "tool" || *role == "function") {
    fields.Unsupported("role", "tools are not built; send system, developer, user or assistant turns");
  }
  if (*role != "system" && *role != "developer" && *role != "user" && *role != "assistant") {
    throw ApiError(Refusal::kInvalidValue,
                   fmt::format("{} is \"{}\"; it must be system, developer, user or assistant",
                               fields.Path("role"), Quoted(*role)),
                   fields.Path("role"));
  }
  for (const std::string_view name : {"tool_calls", "tool_call_id", "function_call", "audio"}) {
    if (fields.Any(name)) fields.Unsupported(name, "leave it out");
  }
  message.role = *role == "developer" ? "system" : *role;  // the encoding has one role for both
  message.content = ParseContent(fields, ignored);
  if (*role == "assistant") message.reasoning_content = fields.String("reasoning_content").value_or("");
  for (std::string& name : fields.Unread()) ignored.push_back(std::move(name));
  return message;
}

void RefuseTools(FieldReader& fields) {
  const auto tools = fields.Array("tools");
  if (tools && tools->begin() != tools->end()) fields.Unsupported("tools", "leave it out");
  if (const auto choice = fields.Any("tool_choice")) {
    std::string_view name;
    const bool neutral =
        choice->get_string().get(name) == simdjson::SUCCESS && (name == "none" || name == "auto");
    if (!neutral) fields.Unsupported("tool_choice", "leave it out or send \"none\"");
  }
  fields.Bool("parallel_tool_calls");  // without tools either value means the same
}

// Only the arguments that this model's encoding has; an open list would be a door into a template.
bool ParseThinking(FieldReader& fields) {
  const auto arguments = fields.Object("chat_template_kwargs");
  if (!arguments) return false;
  FieldReader inner(*arguments, "chat_template_kwargs.");
  const bool thinking = inner.Bool("thinking").value_or(false);
  const auto unknown = inner.Unread();
  if (!unknown.empty()) {
    throw ApiError(Refusal::kUnsupportedParameter,
                   fmt::format("{} is not an argument of this model's chat encoding; it has only thinking",
                               Quoted(unknown.front())),
                   "chat_template_kwargs");
  }
  return thinking;
}

}  // namespace

ChatRequest ParseChat(simdjson::dom::object body, int64_t vocab_size, bool needs_model) {
  FieldReader fields(body);
  ChatRequest request;
  ParseCommon(fields, true, vocab_size, request, needs_model);
  RefuseTools(fields);
  request.thinking = ParseThinking(fields);
  for (const std::string_view name : {"echo", "continue_final_message"}) {
    if (fields.Bool(name).value_or(false)) fields.Unsupported(name, "leave it out or send false");
  }
  if (!fields.Bool("add_generation_prompt").value_or(true)) {
    fields.Unsupported("add_generation_prompt", "leave it out or send true");
  }
  const bool logprobs = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs");
  if (top && !logprobs) {
    throw ApiError(Refusal::kInvalidValue, "top_logprobs needs logprobs: true", "top_logprobs");
  }
  if (logprobs) request.top_logprobs = static_cast<int32_t>(top.value_or(0));

  const auto messages = fields.Array("messages");
  if (!messages) fields.Missing("messages", "a list of turns");
  for (const element item : *messages) {
    if (request.messages.size() == kMaxMessages) {
      throw ApiError(Refusal::kInvalidValue, fmt::format("messages has more than {} turns", kMaxMessages),
                     "messages");
    }
    request.messages.push_back(ParseMessage(item, request.messages.size(), request.ignored_fields));
  }
  if (request.messages.empty()) {
    throw ApiError(Refusal::kInvalidValue, "messages is empty; send at least one turn", "messages");
  }
  for (std::string& name : fields.Unread()) request.ignored_fields.push_back(std::move(name));
  return request;
}

}  // namespace sluice::serve
