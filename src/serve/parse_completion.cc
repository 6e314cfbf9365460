#include <fmt/format.h>

#include "serve/errors.h"
#include "serve/json_body.h"
#include "serve/parse_request.h"
#include "serve/request_limits.h"

namespace sluice::serve {
using simdjson::dom::array;
using simdjson::dom::element;

std::vector<int32_t> ParseIds(array ids, const std::string& path, int64_t vocab_size) {
  std::vector<int32_t> prompt;
  for (const element item : ids) {
    int64_t id = -1;  // the path is only spelt out for a fault: there may be a million ids
    if (!item.is<int64_t>() || item.get_int64().get(id) != simdjson::SUCCESS || id < 0 || id >= vocab_size) {
      ParseTokenId(item, fmt::format("{}[{}]", path, prompt.size()), vocab_size);
    }
    prompt.push_back(static_cast<int32_t>(id));
  }
  return prompt;
}

// A string, or a list that is itself one prompt in ids, or a list of strings and lists of ids.
std::vector<Prompt> ParsePrompts(FieldReader& fields, std::string_view name, int64_t vocab_size) {
  std::vector<Prompt> prompts;
  const auto value = fields.Any(name);
  if (!value) return prompts;
  if (value->is_string()) {
    prompts.push_back({std::string(TextOf(*value)), {}});
    return prompts;
  }
  if (!value->is_array()) fields.WrongType(name, "a string or an array", *value);
  const array list = ArrayOf(*value);
  if (list.begin() == list.end()) {
    throw ApiError(Refusal::kInvalidValue,
                   fmt::format("{} is an empty list; send at least one token or one prompt", name),
                   std::string(name));
  }
  if ((*list.begin()).is_number()) {
    prompts.push_back({std::nullopt, ParseIds(list, std::string(name), vocab_size)});
    return prompts;
  }
  for (const element item : list) {
    if (prompts.size() == kMaxPrompts) {
      throw ApiError(
          Refusal::kInvalidValue,
          fmt::format("{} has more than {} prompts; split the list over several requests", name, kMaxPrompts),
          std::string(name));
    }
    const std::string path = fmt::format("{}[{}]", name, prompts.size());
    if (item.is_string()) {
      prompts.push_back({std::string(TextOf(item)), {}});
    } else if (item.is_array()) {
      prompts.push_back({std::nullopt, ParseIds(ArrayOf(item), path, vocab_size)});
    } else {
      throw ApiError(Refusal::kInvalidType,
                     fmt::format("{} is {}; it must be a string or a list of token ids", path, KindOf(item)),
                     path);
    }
  }
  return prompts;
}

CompletionRequest ParseCompletion(simdjson::dom::object body, int64_t vocab_size) {
  FieldReader fields(body);
  CompletionRequest request;
  ParseCommon(fields, false, vocab_size, request);
  request.prompts = ParsePrompts(fields, "prompt", vocab_size);
  if (request.prompts.empty()) {
    fields.Missing("prompt", "a string, a list of strings, token ids or a list of lists of token ids");
  }
  request.echo = fields.Bool("echo").value_or(false);
  if (const auto count = fields.Integer("logprobs")) request.top_logprobs = static_cast<int32_t>(*count);
  for (std::string& name : fields.Unread()) request.ignored_fields.push_back(std::move(name));
  return request;
}

}  // namespace sluice::serve
