#include <array>

#include "serve/errors.h"
#include "serve/json_body.h"
#include "serve/parse_request.h"
#include "serve/request_limits.h"

namespace sluice::serve {
namespace {

// Fields of SGLang's native API that would change the answer and are not built.
constexpr std::array<std::string_view, 9> kNotBuiltHere{
    "input_embeds",        "image_data",     "video_data",        "audio_data",
    "lora_path",           "session_params", "token_ids_logprob", "custom_logit_processor",
    "return_hidden_states"};

void ParseSamplingParams(FieldReader& fields, int64_t vocab_size, GenerateRequest& request) {
  request.max_tokens = 128;  // SGLang's
  const auto object = fields.Object("sampling_params");
  if (!object) return;
  FieldReader params(*object, "sampling_params.");
  ParseSampling(params, vocab_size, request);
  request.max_tokens = params.Integer("max_new_tokens").value_or(128);
  request.seed = params.Integer("sampling_seed");
  for (std::string& name : params.Unread()) request.ignored_fields.push_back(std::move(name));
}

void ParseLogprobs(FieldReader& fields, GenerateRequest& request) {
  const bool wanted = fields.Bool("return_logprob").value_or(false);
  const int64_t start = fields.Integer("logprob_start_len").value_or(-1);
  const int64_t top = fields.Integer("top_logprobs_num").value_or(0);
  request.logprob_texts = fields.Bool("return_text_in_logprobs").value_or(false);
  if (!wanted) return;
  request.top_logprobs = static_cast<int32_t>(top);
  if (start < 0) return;
  request.logprob_start = start;
  request.prompt_logprobs = static_cast<int32_t>(top);
}

}  // namespace

GenerateRequest ParseGenerate(simdjson::dom::object body, int64_t vocab_size) {
  FieldReader fields(body);
  GenerateRequest request;
  for (const std::string_view name : kNotBuiltHere) {
    const auto value = fields.Any(name);
    bool off = true;
    if (value && (value->get_bool().get(off) != simdjson::SUCCESS || off)) {
      fields.Unsupported(name, "leave it out");
    }
  }
  request.stream = fields.Bool("stream").value_or(false);
  request.segments = fields.Bool("stream_output").value_or(false);
  ParseExtras(fields, request);
  if (request.progress || request.timings) {
    fields.Unsupported(request.progress ? "return_progress" : "timings",
                       "use /v1/completions, or read meta_info");
  }
  ParseSamplingParams(fields, vocab_size, request);
  ParseLogprobs(fields, request);
  std::vector<Prompt> ids = ParsePrompts(fields, "input_ids", vocab_size);
  request.prompts = ParsePrompts(fields, "text", vocab_size);
  if (ids.empty() == request.prompts.empty()) {
    if (ids.empty()) fields.Missing("text", "a text, a list of them, or input_ids");
    throw ApiError(Refusal::kInvalidValue, "text and input_ids are two prompts; send one of them",
                   "input_ids");
  }
  for (const Prompt& prompt : request.prompts) {
    if (!prompt.text)
      throw ApiError(Refusal::kInvalidType, "text has token ids; send them as input_ids", "text");
  }
  for (const Prompt& prompt : ids) {
    if (prompt.text)
      throw ApiError(Refusal::kInvalidType, "input_ids has texts; send them as text", "input_ids");
  }
  const std::string_view name = ids.empty() ? "text" : "input_ids";
  if (!ids.empty()) request.prompts = std::move(ids);
  const auto value = fields.Any(name);
  request.batch = request.n > 1 || request.prompts.size() > 1 ||
                  (value && value->is_array() && !(*ArrayOf(*value).begin()).is_number());
  for (std::string& ignored : fields.Unread()) request.ignored_fields.push_back(std::move(ignored));
  return request;
}

}  // namespace sluice::serve
