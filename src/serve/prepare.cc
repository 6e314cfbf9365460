#include "serve/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "base/clock.h"
#include "serve/errors.h"
#include "serve/ids.h"
#include "serve/request_limits.h"

namespace sluice::serve {
namespace {

std::string LowerTrimmed(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c != ' ' && c != '\t') result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return result;
}

// Names of a client go into a header only as letters, digits and the marks of a path.
std::string HeaderSafe(const std::vector<std::string>& names) {
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), kMaxIgnoredFieldsListed); ++i) {
    if (!list.empty()) list += ", ";
    for (const char c : Quoted(names[i])) {
      const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                         std::string_view("_-.[]").find(c) != std::string_view::npos;
      list += plain ? c : '?';
    }
  }
  if (names.size() > kMaxIgnoredFieldsListed) {
    list += fmt::format(", and {} more", names.size() - kMaxIgnoredFieldsListed);
  }
  return list;
}

// Tokens that prompt and answer may have together.
int64_t Room(const engine::EngineInfo& info) { return std::min(info.context_length, info.max_total_tokens); }

[[noreturn]] void TooLong(const engine::EngineInfo& info, int64_t prompt, int64_t answer,
                          const std::string& param) {
  const std::string what =
      Room(info) == info.context_length
          ? fmt::format("this model's maximum context length is {} tokens", info.context_length)
          : fmt::format("the cache of this server holds {} tokens (the model's maximum context length is {})",
                        info.max_total_tokens, info.context_length);
  throw ApiError(Refusal::kContextLength,
                 fmt::format("{}; the prompt has {} and the answer may have {}: shorten the prompt or lower "
                             "max_tokens",
                             what, prompt, answer),
                 param);
}

// Leaves the last tokens of the prompt, as many as the request asks to keep, and returns how many are gone.
int64_t Truncate(const engine::EngineInfo& info, const ApiRequest& request, int64_t default_max_tokens,
                 std::vector<int32_t>& prompt) {
  if (request.truncate_to == 0) return 0;
  const int64_t answer = request.max_tokens.value_or(std::max<int64_t>(default_max_tokens, 1));
  const int64_t keep =
      request.truncate_to > 0 ? request.truncate_to : std::max<int64_t>(Room(info) - answer, 1);
  const int64_t gone = static_cast<int64_t>(prompt.size()) - keep;
  if (gone <= 0) return 0;
  prompt.erase(prompt.begin(), prompt.begin() + gone);
  return gone;
}

}  // namespace

JsonBody ReadBody(const HttpRequest& request) {
  const std::string type = LowerTrimmed(request.content_type);
  const std::string media = type.substr(0, type.find(';'));
  const std::string parameters = type.size() > media.size() ? type.substr(media.size()) : "";
  const bool utf8 = parameters.find("charset=") == std::string::npos ||
                    parameters.find("charset=utf-8") != std::string::npos ||
                    parameters.find("charset=\"utf-8\"") != std::string::npos;
  if (media != "application/json" || !utf8) {
    throw ApiError(
        Refusal::kUnsupportedMediaType,
        fmt::format(
            "the body's Content-Type is \"{}\"; send JSON in UTF-8 with Content-Type: application/json",
            Quoted(request.content_type)));
  }
  const std::string encoding = LowerTrimmed(request.content_encoding);
  if (!encoding.empty() && encoding != "identity") {
    throw ApiError(Refusal::kUnsupportedMediaType,
                   fmt::format("the body's Content-Encoding is \"{}\"; send it uncompressed",
                               Quoted(request.content_encoding)));
  }
  return JsonBody(request.body);
}

HttpRequest HeadOf(const HttpRequest& request) {
  HttpRequest head = request;
  head.body = {};
  return head;
}

void CheckRunning(const Service& service) {
  const std::string verdict = service.engine.Verdict();
  if (!verdict.empty()) throw ApiError(Refusal::kRankLost, verdict);
  if (const auto refusal = service.generations.refusal()) throw ApiError(*refusal);
}

void CheckServed(const Service& service, const std::string& model) {
  CheckRunning(service);
  OneModel(service, model);
}

GenerationPlan PlanOf(const Service& service, const HttpRequest& http, const ApiRequest& request) {
  GenerationPlan plan;
  plan.stream = request.stream;
  plan.include_usage = request.include_usage;
  plan.continuous_usage = request.continuous_usage;
  plan.logprobs = request.top_logprobs.has_value();
  plan.top_logprobs = request.top_logprobs.value_or(0);
  plan.prompt_logprobs = request.prompt_logprobs;
  plan.chat = request.chat;
  plan.include_stop = request.include_stop;
  plan.progress = request.progress;
  plan.timings = request.timings;
  plan.timings_each = request.timings_each;
  plan.report_truncation = request.truncate_to != 0;
  plan.request_id = http.request_id;
  plan.tokenizer = &service.tokenizer;
  if (!request.request_id.empty()) {
    plan.request_id = plan.id = request.request_id;
    plan.headers.emplace_back("x-request-id", request.request_id);
  }
  plan.return_token_ids = request.return_token_ids;
  plan.max_prompts = service.options.max_prompts;
  plan.watchers = service.watchers;
  plan.model = service.info.served_model_name;
  plan.fingerprint = service.info.system_fingerprint;
  if (!request.ignored_fields.empty()) {
    plan.headers.emplace_back("x-ignored-fields", HeaderSafe(request.ignored_fields));
  }
  return plan;
}

std::vector<Choice> MakeChoices(const Service& service, const ApiRequest& request,
                                std::vector<int32_t> prompt, const std::string& param,
                                int64_t default_max_tokens, const text::AnswerFormat& format) {
  const engine::EngineInfo& info = service.engine.info();
  if (prompt.empty()) {
    throw ApiError(Refusal::kInvalidValue, fmt::format("{} has no tokens; send at least one", param), param);
  }
  if (request.priority != 0 && !info.priority_scheduling) {
    throw ApiError(Refusal::kUnsupportedParameter,
                   "priority means nothing here; leave it out, or start the server with "
                   "--enable-priority-scheduling",
                   "priority");
  }
  const int64_t truncated = Truncate(info, request, default_max_tokens, prompt);
  const auto length = static_cast<int64_t>(prompt.size());
  const int64_t left = Room(info) - length;
  int64_t max_tokens = default_max_tokens < 0 ? left : std::min(default_max_tokens, left);
  if (request.max_tokens) {
    max_tokens = *request.max_tokens;
  } else if (left < 1) {
    TooLong(info, length, 1, param);
  }
  if (max_tokens > left) TooLong(info, length, max_tokens, param);
  if (request.min_tokens > max_tokens) {
    throw ApiError(Refusal::kOutOfRange,
                   fmt::format("min_tokens is {} and the answer may have {}; lower it or raise max_tokens",
                               request.min_tokens, max_tokens),
                   "min_tokens");
  }

  engine::Request job;
  job.prompt = std::move(prompt);
  job.max_tokens = max_tokens;
  const SamplingDefaults& defaults = service.info.sampling_defaults;
  job.temperature = request.temperature.value_or(defaults.temperature);
  job.top_p = request.top_p.value_or(defaults.top_p);
  job.top_k = request.top_k.value_or(defaults.top_k);
  job.min_p = request.min_p;
  job.frequency_penalty = request.frequency_penalty;
  job.presence_penalty = request.presence_penalty;
  job.repetition_penalty = request.repetition_penalty;
  job.logit_bias = request.logit_bias;
  job.min_tokens = request.min_tokens;
  job.grammar = request.grammar;
  job.seed = request.seed ? static_cast<uint64_t>(*request.seed) : RandomBits();
  job.top_logprobs = std::max(request.top_logprobs.value_or(0), request.prompt_logprobs.value_or(0));
  job.prompt_logprobs = request.prompt_logprobs.has_value();
  job.priority = request.priority;
  job.cache_salt = request.cache_salt;
  if (request.deadline_ms > 0) job.deadline_ns = NowNs() + request.deadline_ms * 1'000'000;
  if (!request.ignore_eos) job.stop_token_ids = info.eos_token_ids;
  job.stop_token_ids.insert(job.stop_token_ids.end(), request.stop_token_ids.begin(),
                            request.stop_token_ids.end());
  std::vector<Choice> choices;
  for (int64_t copy = 0; copy < request.n; ++copy) {
    Choice choice(job, AnswerText(service.tokenizer, request.skip_special_tokens, request.stop, format,
                                  request.include_stop));
    choice.request.seed += static_cast<uint64_t>(copy);
    choice.index = choice.copy = copy;
    choice.truncated_tokens = truncated;
    choices.push_back(std::move(choice));
  }
  return choices;
}

void CheckAnswerCount(const Service& service, std::size_t prompts, int64_t n) {
  const int64_t answers = static_cast<int64_t>(prompts) * n;
  if (answers <= service.options.max_prompts) return;
  throw ApiError(
      Refusal::kOutOfRange,
      fmt::format("this request asks for {} answers, {} to each prompt; the server takes {} at once: "
                  "spread them over several requests",
                  answers, n, service.options.max_prompts),
      "n");
}

void CheckPromptLogprobs(const Service& service, const std::vector<Choice>& choices) {
  int64_t tokens = 0;
  for (const Choice& choice : choices) {
    if (choice.request.prompt_logprobs) tokens += static_cast<int64_t>(choice.request.prompt.size());
  }
  if (tokens <= service.options.max_prompt_logprobs) return;
  throw ApiError(
      Refusal::kOutOfRange,
      fmt::format("log-probabilities are asked of {} prompt tokens; this server gives at most {} in "
                  "one answer: send less, or raise --max-prompt-logprobs",
                  tokens, service.options.max_prompt_logprobs),
      "prompt");
}

}  // namespace sluice::serve
