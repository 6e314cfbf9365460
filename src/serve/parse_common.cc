#include <fmt/format.h>

#include <array>

#include "serve/errors.h"
#include "serve/json_body.h"
#include "serve/parse_request.h"
#include "serve/request_limits.h"

namespace sluice::serve {
namespace {

using simdjson::dom::element;

// Fields of OpenAI's API and of other servers that would change the answer and are not built. Whatever value
// they have, except null, is refused.
constexpr std::array<std::string_view, 24> kNotBuilt{"suffix",
                                                     "functions",
                                                     "function_call",
                                                     "modalities",
                                                     "audio",
                                                     "prediction",
                                                     "web_search_options",
                                                     "verbosity",
                                                     "guided_json",
                                                     "guided_regex",
                                                     "guided_choice",
                                                     "guided_grammar",
                                                     "structured_outputs",
                                                     "structural_tag",
                                                     "regex",
                                                     "ebnf",
                                                     "grammar",
                                                     "json_schema",
                                                     "bad_words",
                                                     "logits_processors",
                                                     "custom_logit_processor",
                                                     "prompt_embeds",
                                                     "chat_template",
                                                     "documents"};

void RefuseIf(const FieldReader& fields, bool refused, std::string_view name, std::string_view remedy) {
  if (refused) fields.Unsupported(name, remedy);
}

// Fields with one value that changes nothing; any other is refused.
void RefuseWhatIsNotBuilt(FieldReader& fields) {
  RefuseIf(fields, fields.Integer("best_of").value_or(1) != 1, "best_of", "leave it out or send 1");
  RefuseIf(fields, fields.Integer("min_tokens").value_or(0) != 0, "min_tokens",
           "leave it out or send 0; ignore_eos keeps an answer going to max_tokens");
  RefuseIf(fields, fields.Decimal("min_p").value_or(0) != 0, "min_p", "leave it out or send 0");
  RefuseIf(fields, fields.Decimal("frequency_penalty").value_or(0) != 0, "frequency_penalty",
           "leave it out or send 0");
  RefuseIf(fields, fields.Decimal("presence_penalty").value_or(0) != 0, "presence_penalty",
           "leave it out or send 0");
  RefuseIf(fields, fields.Decimal("repetition_penalty").value_or(1) != 1, "repetition_penalty",
           "leave it out or send 1");
  const auto bias = fields.Object("logit_bias");
  RefuseIf(fields, bias && bias->size() != 0, "logit_bias", "leave it out");
  RefuseIf(fields, fields.Bool("add_special_tokens").value_or(false), "add_special_tokens",
           "leave it out or send false; special tokens may be written out in the text");
  if (const auto format = fields.Object("response_format")) {
    std::string_view type;
    const bool text = (*format)["type"].get(type) == simdjson::SUCCESS && type == "text";
    RefuseIf(fields, !text, "response_format", "leave it out or send {\"type\": \"text\"}");
  }
  for (const std::string_view name : kNotBuilt) {
    RefuseIf(fields, fields.Any(name).has_value(), name, "leave it out");
  }
}

std::vector<std::string> ParseStop(FieldReader& fields) {
  std::vector<std::string> stops;
  const auto add = [&stops](element value, const std::string& path) {
    std::string_view text;
    if (value.get_string().get(text) != simdjson::SUCCESS) {
      throw ApiError(Refusal::kInvalidType, fmt::format("{} is {}; it must be a string", path, KindOf(value)),
                     path);
    }
    if (text.empty() || text.size() > kMaxStopStringBytes) {
      throw ApiError(
          Refusal::kInvalidValue,
          fmt::format("{} has {} bytes; a stop string has 1 to {}", path, text.size(), kMaxStopStringBytes),
          path);
    }
    stops.emplace_back(text);
  };
  const auto value = fields.Any("stop");
  if (!value) return stops;
  if (value->is_string()) {
    add(*value, fields.Path("stop"));
  } else if (value->is_array()) {
    for (const element item : ArrayOf(*value)) {
      if (stops.size() == kMaxStopStrings) {
        throw ApiError(
            Refusal::kInvalidValue,
            fmt::format("stop has more than {} strings; send at most {}", kMaxStopStrings, kMaxStopStrings),
            fields.Path("stop"));
      }
      add(item, fmt::format("{}[{}]", fields.Path("stop"), stops.size()));
    }
  } else {
    fields.WrongType("stop", "a string or an array of strings", *value);
  }
  return stops;
}

std::vector<int32_t> ParseStopTokenIds(FieldReader& fields, int64_t vocab_size) {
  std::vector<int32_t> ids;
  const auto array = fields.Array("stop_token_ids");
  if (!array) return ids;
  for (const element item : *array) {
    if (ids.size() == kMaxStopTokenIds) {
      throw ApiError(Refusal::kInvalidValue,
                     fmt::format("stop_token_ids has more than {} ids; send at most {}", kMaxStopTokenIds,
                                 kMaxStopTokenIds),
                     fields.Path("stop_token_ids"));
    }
    ids.push_back(
        ParseTokenId(item, fmt::format("{}[{}]", fields.Path("stop_token_ids"), ids.size()), vocab_size));
  }
  return ids;
}

void ParseStreaming(FieldReader& fields, ApiRequest& request) {
  request.stream = fields.Bool("stream").value_or(false);
  const auto options = fields.Object("stream_options");
  if (!options) return;
  if (!request.stream) {
    throw ApiError(Refusal::kInvalidValue,
                   "stream_options is only for streams; leave it out or send stream: true", "stream_options");
  }
  FieldReader inner(*options, "stream_options.");
  request.include_usage = inner.Bool("include_usage").value_or(false);
  request.continuous_usage = inner.Bool("continuous_usage_stats").value_or(false);
  for (std::string& name : inner.Unread()) request.ignored_fields.push_back(std::move(name));
}

}  // namespace

int32_t ParseTokenId(element value, const std::string& path, int64_t vocab_size) {
  const auto type = value.type();
  if (type != simdjson::dom::element_type::INT64 && type != simdjson::dom::element_type::UINT64) {
    throw ApiError(Refusal::kInvalidType, fmt::format("{} is {}; it must be a token id", path, KindOf(value)),
                   path);
  }
  int64_t id = -1;
  if (value.get_int64().get(id) != simdjson::SUCCESS || id < 0 || id >= vocab_size) {
    throw ApiError(Refusal::kInvalidValue,
                   fmt::format("{} is no token of this model; ids are 0 to {}", path, vocab_size - 1), path);
  }
  return static_cast<int32_t>(id);
}

void ParseSampling(FieldReader& fields, int64_t vocab_size, ApiRequest& request) {
  RefuseWhatIsNotBuilt(fields);
  if (const auto value = fields.Decimal("temperature")) request.temperature = static_cast<float>(*value);
  if (const auto value = fields.Decimal("top_p")) request.top_p = static_cast<float>(*value);
  if (const auto value = fields.Integer("top_k")) {
    request.top_k = *value == -1 ? 0 : static_cast<int32_t>(*value);
  }
  request.n = fields.Integer("n").value_or(1);
  request.stop = ParseStop(fields);
  request.stop_token_ids = ParseStopTokenIds(fields, vocab_size);
  const bool include_stop = fields.Bool("include_stop_str_in_output").value_or(false);
  request.include_stop = fields.Bool("no_stop_trim").value_or(false) || include_stop;  // SGLang's name
  request.ignore_eos = fields.Bool("ignore_eos").value_or(false);
  request.skip_special_tokens = fields.Bool("skip_special_tokens").value_or(true);
}

void ParseCommon(FieldReader& fields, bool chat, int64_t vocab_size, ApiRequest& request, bool needs_model) {
  const auto model = fields.String("model");
  if (!model && needs_model) fields.Missing("model", "the name that GET /v1/models lists");
  request.model = model.value_or("");
  request.chat = chat;
  ParseSampling(fields, vocab_size, request);
  ParseStreaming(fields, request);
  ParseExtras(fields, request);
  request.max_tokens = fields.Integer("max_tokens");
  if (chat) {
    if (const auto newer = fields.Integer("max_completion_tokens")) request.max_tokens = newer;
  }
  request.seed = fields.Integer("seed");
  if (const auto count = fields.Integer("prompt_logprobs"))
    request.prompt_logprobs = static_cast<int32_t>(*count);
  request.return_token_ids = fields.Bool("return_token_ids").value_or(false);
}

}  // namespace sluice::serve
