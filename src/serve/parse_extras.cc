#include <fmt/format.h>

#include "serve/errors.h"
#include "serve/http_text.h"
#include "serve/parse_request.h"
#include "serve/request_limits.h"

namespace sluice::serve {
namespace {

// `rid` is SGLang's name for it, `request_id` vLLM's.
std::string ParseRequestId(FieldReader& fields) {
  std::string id;
  for (const std::string_view name : {"request_id", "rid"}) {
    const auto given = fields.String(name);
    if (!given) continue;
    if (!IsRequestId(*given)) {
      throw ApiError(Refusal::kInvalidValue,
                     fmt::format("{} is \"{}\"; it must be 1 to 128 letters, digits and -_.:/+=",
                                 fields.Path(name), Quoted(*given)),
                     fields.Path(name));
    }
    if (!id.empty() && id != *given) {
      throw ApiError(Refusal::kInvalidValue, "rid and request_id name the same and differ; send one of them",
                     fields.Path(name));
    }
    id = *given;
  }
  return id;
}

// `cache_salt` is vLLM's name, `extra_key` SGLang's; with both, prefixes are shared only where both agree.
std::string ParseCacheSalt(FieldReader& fields) {
  std::string salt;
  for (const std::string_view name : {"cache_salt", "extra_key"}) {
    const auto given = fields.String(name);
    if (!given) continue;
    if (given->empty() || given->size() > kMaxCacheSaltBytes) {
      throw ApiError(Refusal::kInvalidValue,
                     fmt::format("{} has {} bytes; it must have 1 to {}", fields.Path(name), given->size(),
                                 kMaxCacheSaltBytes),
                     fields.Path(name));
    }
    salt += fmt::format("{}:{}:{};", name, given->size(), *given);
  }
  return salt;
}

}  // namespace

void ParseExtras(FieldReader& fields, ApiRequest& request) {
  request.request_id = ParseRequestId(fields);
  request.cache_salt = ParseCacheSalt(fields);
  request.priority = fields.Integer("priority").value_or(0);
  request.deadline_ms = fields.Integer("deadline_ms").value_or(0);
  if (const auto keep = fields.Integer("truncate_prompt_tokens")) {
    if (*keep == 0) {
      throw ApiError(
          Refusal::kOutOfRange,
          "truncate_prompt_tokens is 0; send how many tokens of the prompt's end to keep, or -1 for "
          "as many as fit",
          fields.Path("truncate_prompt_tokens"));
    }
    request.truncate_to = *keep;
  }
  request.progress = fields.Bool("return_progress").value_or(false);
  if (request.progress && !request.stream) {
    throw ApiError(Refusal::kInvalidValue,
                   "return_progress is only for streams; leave it out or send stream: true",
                   fields.Path("return_progress"));
  }
  request.timings_each = fields.Bool("timings_per_token").value_or(false);
  request.timings = fields.Bool("timings").value_or(false) || request.timings_each;
}

}  // namespace sluice::serve
