#include <algorithm>
#include <array>
#include <set>
#include <string>

#include "serve/errors.h"
#include "serve/request_limits.h"
#include "serve/route_table.h"
#include "serve/web_page.h"

namespace sluice::serve {
namespace {

// How a field of a body is described. Null is the same as absent everywhere.
enum class Kind {
  kBool,
  kNumber,
  kText,
  kModel,
  kName,
  kSalt,
  kObject,
  kTexts,
  kIds,
  kPrompts,
  kMessages,
  kActivities,
  kFileName,
  kAny
};

struct Field {
  std::string_view name;
  Kind kind;
};

constexpr std::array kSamplingFields{
    Field{"temperature", Kind::kNumber},
    Field{"top_p", Kind::kNumber},
    Field{"top_k", Kind::kNumber},
    Field{"min_p", Kind::kNumber},
    Field{"n", Kind::kNumber},
    Field{"frequency_penalty", Kind::kNumber},
    Field{"presence_penalty", Kind::kNumber},
    Field{"repetition_penalty", Kind::kNumber},
    Field{"logit_bias", Kind::kObject},
    Field{"min_tokens", Kind::kNumber},
    Field{"response_format", Kind::kObject},
    Field{"regex", Kind::kText},
    Field{"guided_regex", Kind::kText},
    Field{"json_schema", Kind::kAny},
    Field{"guided_json", Kind::kAny},
    Field{"stop", Kind::kTexts},
    Field{"stop_token_ids", Kind::kIds},
    Field{"include_stop_str_in_output", Kind::kBool},
    Field{"no_stop_trim", Kind::kBool},
    Field{"ignore_eos", Kind::kBool},
    Field{"skip_special_tokens", Kind::kBool},
};
constexpr std::array kExtraFields{
    Field{"request_id", Kind::kName},
    Field{"rid", Kind::kName},
    Field{"cache_salt", Kind::kSalt},
    Field{"extra_key", Kind::kSalt},
    Field{"priority", Kind::kNumber},
    Field{"deadline_ms", Kind::kNumber},
    Field{"truncate_prompt_tokens", Kind::kNumber},
    Field{"stream", Kind::kBool},
};
constexpr std::array kOpenAiFields{
    Field{"model", Kind::kModel},
    Field{"max_tokens", Kind::kNumber},
    Field{"seed", Kind::kNumber},
    Field{"prompt_logprobs", Kind::kNumber},
    Field{"return_token_ids", Kind::kBool},
    Field{"stream_options", Kind::kObject},
    Field{"return_progress", Kind::kBool},
    Field{"timings", Kind::kBool},
    Field{"timings_per_token", Kind::kBool},
};
constexpr std::array kChatFields{
    Field{"messages", Kind::kMessages},
    Field{"max_completion_tokens", Kind::kNumber},
    Field{"logprobs", Kind::kBool},
    Field{"top_logprobs", Kind::kNumber},
    Field{"chat_template_kwargs", Kind::kObject},
    Field{"reasoning_effort", Kind::kText},
    Field{"separate_reasoning", Kind::kBool},
    Field{"include_reasoning", Kind::kBool},
    Field{"continue_final_message", Kind::kBool},
    Field{"add_generation_prompt", Kind::kBool},
    Field{"tools", Kind::kAny},
    Field{"tool_choice", Kind::kAny},
    Field{"parallel_tool_calls", Kind::kBool},
};
constexpr std::array kCompletionFields{
    Field{"prompt", Kind::kPrompts},
    Field{"echo", Kind::kBool},
    Field{"logprobs", Kind::kNumber},
    Field{"best_of", Kind::kNumber},
};
constexpr std::array kGenerateFields{
    Field{"text", Kind::kTexts},
    Field{"input_ids", Kind::kAny},
    Field{"sampling_params", Kind::kObject},
    Field{"return_logprob", Kind::kBool},
    Field{"logprob_start_len", Kind::kNumber},
    Field{"top_logprobs_num", Kind::kNumber},
    Field{"return_text_in_logprobs", Kind::kBool},
    Field{"stream_output", Kind::kBool},
};
constexpr std::array kTokenizeFields{
    Field{"model", Kind::kModel},
    Field{"prompt", Kind::kText},
    Field{"content", Kind::kText},
    Field{"messages", Kind::kMessages},
    Field{"with_pieces", Kind::kBool},
    Field{"return_token_strs", Kind::kBool},
    Field{"add_special_tokens", Kind::kBool},
};
constexpr std::array kDetokenizeFields{
    Field{"model", Kind::kModel},
    Field{"tokens", Kind::kIds},
    Field{"skip_special_tokens", Kind::kBool},
};
constexpr std::array kAbortFields{
    Field{"rid", Kind::kText},
    Field{"abort_all", Kind::kBool},
};
constexpr std::array kDumpFields{
    Field{"output_dir", Kind::kText},
};
constexpr std::array kProfileFields{
    Field{"start_step", Kind::kNumber},         Field{"num_steps", Kind::kNumber},
    Field{"activities", Kind::kActivities},     Field{"profile_by_stage", Kind::kBool},
    Field{"with_stack", Kind::kBool},           Field{"record_shapes", Kind::kBool},
    Field{"merge_profiles", Kind::kBool},       Field{"profile_prefix", Kind::kFileName},
    Field{"profile_stages", Kind::kActivities},
};

Json Nullable(const char* type) { return {{"type", Json::array({type, "null"})}}; }

Json NumberSchema(std::string_view name) {
  const NumericField& limits = LimitsOf(name);
  Json schema = Nullable(limits.integer ? "integer" : "number");
  if (limits.max > 9e18) return schema;  // any 64-bit integer, which has no exact bounds in JSON's numbers
  const auto bound = [&limits](double value) {
    return limits.integer ? Json(static_cast<int64_t>(value)) : Json(value);
  };
  schema[limits.above_min ? "exclusiveMinimum" : "minimum"] = bound(limits.min);
  schema["maximum"] = bound(limits.max);
  return schema;
}

Json SchemaOf(const Service& service, const Field& field) {
  const Json text = {{"type", "string"}, {"minLength", 1}};
  const Json ids = {{"type", "array"}, {"items", {{"type", "integer"}, {"minimum", 0}}}};
  switch (field.kind) {
    case Kind::kBool:
      return Nullable("boolean");
    case Kind::kNumber:
      return NumberSchema(field.name);
    case Kind::kText:
      return Nullable("string");
    case Kind::kModel:
      return {{"enum", {service.info.served_model_name, service.info.model_path, nullptr}}};
    case Kind::kName: {
      Json schema = Nullable("string");
      schema["pattern"] = "^[A-Za-z0-9_.:/+=-]{1,128}$";
      return schema;
    }
    case Kind::kSalt: {
      Json schema = Nullable("string");
      schema["minLength"] = 1;
      schema["maxLength"] = kMaxCacheSaltBytes;
      return schema;
    }
    case Kind::kObject:
      return Nullable("object");
    case Kind::kTexts:
      return {{"anyOf", {text, {{"type", "array"}, {"items", text}}, {{"type", "null"}}}}};
    case Kind::kIds:
      return {{"anyOf", {ids, {{"type", "null"}}}}};
    case Kind::kPrompts:
      return {
          {"anyOf", {text, ids, {{"type", "array"}, {"items", {{"anyOf", {text, ids}}}}, {"minItems", 1}}}}};
    case Kind::kMessages:
      return {{"type", "array"},
              {"minItems", 1},
              {"items",
               {{"type", "object"},
                {"properties",
                 {{"role", {{"enum", {"system", "developer", "user", "assistant", "tool"}}}},
                  {"content", Json::object()}}},
                {"required", Json::array({"role"})}}}};
    case Kind::kActivities:
      return {{"type", Json::array({"array", "null"})}, {"items", {{"type", "string"}}}};
    case Kind::kFileName: {
      Json schema = Nullable("string");
      schema["pattern"] = "^[A-Za-z0-9_-]{1,64}$";
      return schema;
    }
    case Kind::kAny:
      return Json::object();
  }
  return Json::object();
}

template <typename Fields>
void Add(const Service& service, const Fields& fields, Json& properties) {
  for (const Field& field : fields) properties[std::string(field.name)] = SchemaOf(service, field);
}

// The schema of a body. What it does not name is ignored and listed in x-ignored-fields.
Json BodySchema(const Service& service, BodyKind kind) {
  Json properties = Json::object();
  Json required = Json::array();
  switch (kind) {
    case BodyKind::kNone:
      return nullptr;
    case BodyKind::kChat:
    case BodyKind::kChatPrompt:
    case BodyKind::kCompletion:
      Add(service, kOpenAiFields, properties);
      Add(service, kSamplingFields, properties);
      Add(service, kExtraFields, properties);
      if (kind == BodyKind::kCompletion) {
        Add(service, kCompletionFields, properties);
        required = {"model", "prompt"};
      } else {
        Add(service, kChatFields, properties);
        required = {"messages"};
        if (kind == BodyKind::kChat) required.push_back("model");
      }
      break;
    case BodyKind::kGenerate: {
      Add(service, kGenerateFields, properties);
      Add(service, kExtraFields, properties);
      Json params = Json::object();
      Add(service, kSamplingFields, params);
      for (const std::string_view name : {"max_new_tokens", "sampling_seed"}) {
        params[std::string(name)] = NumberSchema(name);
      }
      properties["sampling_params"]["properties"] = std::move(params);
      break;
    }
    case BodyKind::kTokenize:
      Add(service, kTokenizeFields, properties);
      break;
    case BodyKind::kDetokenize:
      Add(service, kDetokenizeFields, properties);
      required = {"tokens"};
      break;
    case BodyKind::kAbort:
      Add(service, kAbortFields, properties);
      break;
    case BodyKind::kProfile:
      Add(service, kProfileFields, properties);
      [[fallthrough]];
    case BodyKind::kDump:
      Add(service, kDumpFields, properties);
      break;
  }
  Json schema = {{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

bool Generates(const RouteRow& row) {
  return row.body == BodyKind::kChat || row.body == BodyKind::kCompletion || row.body == BodyKind::kGenerate;
}

// Every status that the route can answer, from the table of errors.
Json Responses(const RouteRow& row) {
  Json whole = {{"description", "The answer"}};
  if (row.path == "/metrics") {
    whole["content"]["text/plain"] = Json::object();
  } else if (row.path == "/" || row.path.starts_with("/web/")) {
    whole["content"][WebMediaType(row.path)] = Json::object();
  } else {
    whole["content"]["application/json"] = {{"schema", Json::object()}};
    if (Generates(row)) whole["content"]["text/event-stream"] = Json::object();
  }
  std::set<int> statuses;
  for (const ErrorRow& error : ErrorTable()) {
    const bool occurs =
        error.scope == ErrorScope::kEveryRoute ||
        (error.scope == ErrorScope::kBodies && row.body != BodyKind::kNone) ||
        (error.scope == ErrorScope::kModels &&
         (row.body != BodyKind::kNone || row.path == kModelPrefix || row.path == "/metrics")) ||
        (error.scope == ErrorScope::kGenerations && Generates(row)) ||
        (error.scope == ErrorScope::kControl && row.audience == Audience::kControl) ||
        (error.scope == ErrorScope::kControl && row.path == "/flush_cache");
    if (occurs) statuses.insert(error.status);
  }
  Json responses = {{"200", std::move(whole)}};
  for (const int status : statuses) {
    responses[std::to_string(status)] = {{"$ref", "#/components/responses/error"}};
  }
  return responses;
}

Json Operation(const Service& service, const RouteRow& row) {
  Json operation = {{"summary", row.summary}, {"responses", Responses(row)}};
  if (row.path == kModelPrefix) {
    operation["parameters"] = Json::array(
        {Json{{"name", "id"}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}});
  }
  Json schema = BodySchema(service, row.body);
  if (!schema.is_null()) {
    const bool required = row.body != BodyKind::kProfile && row.body != BodyKind::kDump;
    operation["requestBody"] = {{"required", required},
                                {"content", {{"application/json", {{"schema", std::move(schema)}}}}}};
  }
  if (row.audience == Audience::kAnyone) operation["security"] = Json::array();
  return operation;
}

Json ErrorResponse() {
  const Json text_or_null = {{"type", Json::array({"string", "null"})}};
  Json error = {{"type", "object"},
                {"required", {"message", "type", "param", "code"}},
                {"properties",
                 {{"message", {{"type", "string"}}},
                  {"type", {{"type", "string"}}},
                  {"param", text_or_null},
                  {"code", {{"type", "string"}}},
                  {"predicted_wait_seconds", {{"type", "number"}}}}}};
  Json schema = {{"type", "object"}, {"required", {"error"}}, {"properties", {{"error", std::move(error)}}}};
  return {{"description", "Why there is no answer"},
          {"content", {{"application/json", {{"schema", std::move(schema)}}}}}};
}

}  // namespace

HttpResponse OpenApiAnswer(const Service& service) {
  Json paths = Json::object();
  for (const RouteRow& row : Routes()) {
    std::string path(row.path);
    if (row.path == kModelPrefix) path += "{id}";
    std::string method(row.method);
    std::transform(method.begin(), method.end(), method.begin(), [](char c) { return c | 0x20; });
    paths[path][method] = Operation(service, row);
  }
  Json document = {{"openapi", "3.1.0"},
                   {"info", {{"title", "sluice"}, {"version", service.info.version}}},
                   {"paths", std::move(paths)},
                   {"components",
                    {{"responses", {{"error", ErrorResponse()}}},
                     {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}}};
  if (!service.options.api_keys.empty()) document["security"] = Json::array({Json{{"key", Json::array()}}});
  HttpResponse response;
  response.body = ToText(document);
  return response;
}

}  // namespace sluice::serve
