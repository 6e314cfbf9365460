#include <fmt/format.h>

#include <array>
#include <charconv>

#include "serve/errors.h"
#include "serve/json_body.h"
#include "serve/parse_request.h"
#include "serve/request_limits.h"

namespace sluice::serve {
namespace {

using simdjson::dom::element;

constexpr std::string_view kTypes = "text, json_object, json_schema";

std::vector<std::pair<int32_t, float>> ParseLogitBias(FieldReader& fields, int64_t vocab_size) {
  std::vector<std::pair<int32_t, float>> biases;
  const auto map = fields.Object("logit_bias");
  if (!map) return biases;
  if (map->size() > kMaxLogitBiases) {
    throw ApiError(Refusal::kInvalidValue,
                   fmt::format("logit_bias has {} tokens; send at most {}", map->size(), kMaxLogitBiases),
                   fields.Path("logit_bias"));
  }
  for (const auto& [name, value] : *map) {
    const std::string path = fields.Path("logit_bias");
    int32_t token = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), token);
    if (error != std::errc() || end != name.data() + name.size() || token < 0 || token >= vocab_size) {
      throw ApiError(Refusal::kInvalidValue,
                     fmt::format("{} has \"{}\", which is no token of this model; ids are 0 to {}", path,
                                 Quoted(name), vocab_size - 1),
                     path);
    }
    if (name != fmt::to_string(token)) {  // "05" beside "5" would be one token with two biases
      throw ApiError(
          Refusal::kInvalidValue,
          fmt::format("{} has \"{}\"; write the id of that token as \"{}\"", path, Quoted(name), token),
          path);
    }
    double bias = 0.0;
    if (!value.is_number() || value.get_double().get(bias) != simdjson::SUCCESS) {
      throw ApiError(Refusal::kInvalidType,
                     fmt::format("{} of token {} is {}; it must be a number", path, token, KindOf(value)),
                     path);
    }
    if (!(bias >= -100.0 && bias <= 100.0)) {
      throw ApiError(Refusal::kOutOfRange,
                     fmt::format("{} of token {} is {}; it must be from -100 to 100", path, token, bias),
                     path);
    }
    biases.emplace_back(token, static_cast<float>(bias));
  }
  return biases;
}

// A schema is an object or, as some clients send it, its text.
std::string SchemaText(const FieldReader& fields, element schema, std::string_view name) {
  std::string_view text;
  if (schema.get_string().get(text) == simdjson::SUCCESS) return std::string(text);
  if (!schema.is_object() && !schema.is_bool()) fields.WrongType(name, "a JSON schema", schema);
  return simdjson::minify(schema);
}

AnswerConstraint ParseResponseFormat(FieldReader& fields, std::vector<std::string>& ignored) {
  AnswerConstraint constraint;
  const auto object = fields.Object("response_format");
  if (!object) return constraint;
  FieldReader inner(*object, fields.Path("response_format") + ".");
  const auto type = inner.String("type");
  if (!type) inner.Missing("type", kTypes);
  if (*type == "json_object") {
    constraint.kind = AnswerConstraint::Kind::kJsonObject;
  } else if (*type == "json_schema") {
    const auto named = inner.Object("json_schema");
    if (!named) inner.Missing("json_schema", "an object with the schema");
    FieldReader schema(*named, inner.Path("json_schema") + ".");
    const auto value = schema.Any("schema");
    if (!value) schema.Missing("schema", "the JSON schema of the answer");
    // Both say nothing here: every schema is kept to the letter.
    schema.String("name");
    schema.Bool("strict");
    schema.String("description");
    constraint = {AnswerConstraint::Kind::kJsonSchema, SchemaText(schema, *value, "schema"),
                  schema.Path("schema")};
    for (std::string& name : schema.Unread()) ignored.push_back(std::move(name));
  } else if (*type != "text") {
    throw ApiError(
        Refusal::kInvalidValue,
        fmt::format("{} is \"{}\"; it must be one of {}", inner.Path("type"), Quoted(*type), kTypes),
        inner.Path("type"));
  }
  for (std::string& name : inner.Unread()) ignored.push_back(std::move(name));
  return constraint;
}

// response_format is OpenAI's, regex and json_schema are SGLang's, guided_* are vLLM's.
AnswerConstraint ParseFormat(FieldReader& fields, std::vector<std::string>& ignored) {
  AnswerConstraint constraint = ParseResponseFormat(fields, ignored);
  std::string_view given = constraint.kind == AnswerConstraint::Kind::kText ? "" : "response_format";
  const auto take = [&](std::string_view name, AnswerConstraint::Kind kind, std::string source) {
    if (!given.empty()) {
      throw ApiError(Refusal::kInvalidValue,
                     fmt::format("{} and {} both say what the answer must be; send one of them", given,
                                 fields.Path(name)),
                     fields.Path(name));
    }
    given = name;
    constraint = {kind, std::move(source), fields.Path(name)};
  };
  for (const std::string_view name : {"regex", "guided_regex"}) {
    if (auto pattern = fields.String(name)) take(name, AnswerConstraint::Kind::kRegex, std::move(*pattern));
  }
  for (const std::string_view name : {"json_schema", "guided_json"}) {
    if (const auto schema = fields.Any(name)) {
      take(name, AnswerConstraint::Kind::kJsonSchema, SchemaText(fields, *schema, name));
    }
  }
  return constraint;
}

}  // namespace

void ParseChoice(FieldReader& fields, int64_t vocab_size, ApiRequest& request) {
  request.min_p = static_cast<float>(fields.Decimal("min_p").value_or(0.0));
  request.frequency_penalty = static_cast<float>(fields.Decimal("frequency_penalty").value_or(0.0));
  request.presence_penalty = static_cast<float>(fields.Decimal("presence_penalty").value_or(0.0));
  request.repetition_penalty = static_cast<float>(fields.Decimal("repetition_penalty").value_or(1.0));
  request.logit_bias = ParseLogitBias(fields, vocab_size);
  request.min_tokens = fields.Integer("min_tokens").value_or(0);
  request.constraint = ParseFormat(fields, request.ignored_fields);
}

}  // namespace sluice::serve
