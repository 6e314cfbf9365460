#include "serve/parse_tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "serve/errors.h"
#include "serve/json_body.h"
#include "serve/request_limits.h"

namespace sluice::serve {
namespace {

using simdjson::dom::element;

[[noreturn]] void Invalid(const std::string& path, const std::string& what) {
  throw ApiError(Refusal::kInvalidValue, fmt::format("{} {}", path, what), path);
}

FieldReader ObjectAt(element value, const std::string& path, std::string_view members) {
  if (!value.is_object()) {
    throw ApiError(Refusal::kInvalidType,
                   fmt::format("{} is {}; it must be an object with {}", path, KindOf(value), members), path);
  }
  return FieldReader(ObjectOf(value), path + ".");
}

void ExpectFunction(FieldReader& fields) {
  const auto type = fields.String("type");
  if (!type) fields.Missing("type", "\"function\"");
  if (*type != "function") fields.Unsupported("type", "only \"function\" is known here");
}

std::string ToolName(FieldReader& function) {
  const auto name = function.String("name");
  if (!name) function.Missing("name", "the name of the function");
  const bool plain = std::ranges::all_of(
      *name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-'; });
  if (name->empty() || name->size() > kMaxToolNameBytes || !plain) {
    Invalid(function.Path("name"), fmt::format("is \"{}\"; a name has 1 to {} letters, digits, _ and -",
                                               Quoted(*name), kMaxToolNameBytes));
  }
  return *name;
}

// The function of one tool, as JSON.
std::string ParseTool(element value, std::size_t index, ChatRequest& request) {
  const std::string path = fmt::format("tools[{}]", index);
  FieldReader tool = ObjectAt(value, path, "type and function");
  ExpectFunction(tool);
  const auto inner = tool.Any("function");
  if (!inner) tool.Missing("function", "an object with a name");
  FieldReader function = ObjectAt(*inner, tool.Path("function"), "a name");
  std::string name = ToolName(function);
  if (std::ranges::find(request.tool_names, name) != request.tool_names.end()) {
    Invalid(function.Path("name"), fmt::format("is \"{}\" again; names of tools differ", name));
  }
  request.tool_names.push_back(std::move(name));
  function.String("description");
  function.Bool("strict");
  if (const auto parameters = function.Object("parameters")) {
    FieldReader schema(*parameters, function.Path("parameters."));
    const auto type = schema.Any("type");
    if (type && (!type->is_string() || TextOf(*type) != "object")) {
      Invalid(schema.Path("type"), "is not \"object\"; the arguments of a function are one object");
    }
    schema.Object("properties");
    schema.Array("required");
  }
  for (std::string& unread : tool.Unread()) request.ignored_fields.push_back(std::move(unread));
  return simdjson::minify(*inner);
}

void ParseNamedChoice(simdjson::dom::object object, ChatRequest& request) {
  FieldReader choice(object, "tool_choice.");
  ExpectFunction(choice);
  const auto function = choice.Object("function");
  if (!function) choice.Missing("function", "an object with the name of a tool");
  FieldReader inner(*function, "tool_choice.function.");
  const std::string name = ToolName(inner);
  if (std::ranges::find(request.tool_names, name) == request.tool_names.end()) {
    Invalid("tool_choice", fmt::format("names \"{}\", which is none of the tools", name));
  }
  request.tool_choice = ToolChoice::kNamed;
  request.tool_names = {name};
  request.one_call = true;
}

void ParseToolChoice(FieldReader& fields, ChatRequest& request) {
  request.tool_choice = request.tool_names.empty() ? ToolChoice::kNone : ToolChoice::kAuto;
  const auto choice = fields.Any("tool_choice");
  if (!choice) return;
  if (choice->is_object()) return ParseNamedChoice(ObjectOf(*choice), request);
  const std::string_view word = choice->is_string() ? TextOf(*choice) : "";
  if (word == "none") {
    request.tool_choice = ToolChoice::kNone;
    request.tool_names.clear();
  } else if (word == "required") {
    if (request.tool_names.empty()) Invalid("tool_choice", "is \"required\" and there are no tools");
    request.tool_choice = ToolChoice::kRequired;
  } else if (word != "auto") {
    Invalid("tool_choice", "must be \"none\", \"auto\", \"required\" or an object that names a function");
  }
}

}  // namespace

void ParseToolCalls(FieldReader& message, Turn& turn, std::vector<std::string>& ignored) {
  const auto calls = message.Array("tool_calls");
  if (!calls) return;
  for (const element item : *calls) {
    const std::string path = fmt::format("{}[{}]", message.Path("tool_calls"), turn.call_ids.size());
    if (turn.call_ids.size() == kMaxToolCalls) {
      Invalid(message.Path("tool_calls"), fmt::format("has more than {} calls", kMaxToolCalls));
    }
    FieldReader call = ObjectAt(item, path, "type and function");
    ExpectFunction(call);
    const auto inner = call.Any("function");
    if (!inner) call.Missing("function", "an object with name and arguments");
    FieldReader function = ObjectAt(*inner, call.Path("function"), "name and arguments");
    std::string name = ToolName(function);
    const auto arguments = function.String("arguments");
    if (!arguments) function.Missing("arguments", "a JSON object as a string; \"{}\" for none");
    turn.message.tool_calls.push_back({std::move(name), *arguments});
    turn.call_ids.push_back(call.String("id").value_or(""));
    call.Any("index");  // of the stream that the client has it from
    for (FieldReader* reader : {&call, &function}) {
      for (std::string& unread : reader->Unread()) ignored.push_back(std::move(unread));
    }
  }
}

void OrderToolResults(std::vector<Turn>& turns) {
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const std::vector<std::string>& ids = turns[i].call_ids;
    if (ids.empty()) continue;
    std::size_t count = 0;
    while (i + 1 + count < turns.size() && turns[i + 1 + count].message.role == "tool") ++count;
    const std::string path = fmt::format("messages[{}]", i);
    if (count != ids.size()) {
      Invalid(path + ".tool_calls", fmt::format("has {} calls, and {} tool turns follow; send the result of "
                                                "each call as a turn with the role tool",
                                                ids.size(), count));
    }
    std::vector<std::optional<Turn>> ordered(count);
    for (std::size_t k = 0; k < count; ++k) {
      Turn& result = turns[i + 1 + k];
      std::size_t place = k;
      if (!result.result_of.empty()) {
        const std::string where = fmt::format("messages[{}].tool_call_id", i + 1 + k);
        place = static_cast<std::size_t>(std::ranges::find(ids, result.result_of) - ids.begin());
        if (place == count) Invalid(where, fmt::format("is the id of none of the calls of {}", path));
      }
      // Equal ids and results without one leave no choice but the order in which they came.
      if (ordered[place]) {
        place = static_cast<std::size_t>(
            std::ranges::find_if(ordered, [](const auto& taken) { return !taken; }) - ordered.begin());
      }
      ordered[place] = std::move(result);
    }
    for (std::size_t k = 0; k < count; ++k) turns[i + 1 + k] = std::move(*ordered[k]);
  }
}

void ParseTools(FieldReader& fields, ChatRequest& request) {
  std::vector<std::string> functions;
  if (const auto tools = fields.Array("tools")) {
    for (const element item : *tools) {
      if (functions.size() == kMaxTools) Invalid("tools", fmt::format("has more than {} tools", kMaxTools));
      functions.push_back(ParseTool(item, functions.size(), request));
    }
  }
  request.one_call = !fields.Bool("parallel_tool_calls").value_or(true);
  ParseToolChoice(fields, request);
  if (request.tool_choice == ToolChoice::kNone) return;
  // Where the call begins in the prompt; elsewhere a grammar makes it, after the reasoning.
  const bool in_prompt = request.dialect.calls == text::CallMarkup::kDeepSeekV32;
  if (in_prompt && request.thinking && request.tool_choice != ToolChoice::kAuto) {
    throw ApiError(Refusal::kUnsupportedParameter,
                   "tool_choice cannot demand a call of a model that thinks first; send \"auto\", or leave "
                   "thinking off",
                   "tool_choice");
  }
  if (request.continue_final_message && request.tool_choice != ToolChoice::kAuto) {
    Invalid("tool_choice", "cannot demand a call together with continue_final_message");
  }
  if (functions.empty()) return;
  if (request.messages.front().role != "system") {
    request.messages.insert(request.messages.begin(), {.role = "system"});
    request.first_message = -1;
  }
  request.messages.front().tools = std::move(functions);
}

}  // namespace sluice::serve
