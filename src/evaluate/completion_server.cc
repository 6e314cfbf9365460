#include "evaluate/completion_server.h"

#include <algorithm>
#include <charconv>
#include <thread>

#include "base/error.h"

namespace sluice::evaluate {
namespace {

constexpr std::chrono::seconds kLongestPause{60};
constexpr std::chrono::milliseconds kLook{50};  // how soon a cancel ends a pause

std::chrono::seconds PauseOf(const client::HttpAnswer& answer) {
  const auto found = answer.headers.find("retry-after");
  int64_t seconds = 1;
  if (found != answer.headers.end()) {
    std::from_chars(found->second.data(), found->second.data() + found->second.size(), seconds);
  }
  return std::clamp(std::chrono::seconds(seconds), std::chrono::seconds(1), kLongestPause);
}

bool IsBusy(const client::HttpAnswer& answer) {
  const auto found = answer.headers.find("x-should-retry");
  return (answer.status == 429 || answer.status == 503) &&
         (found == answer.headers.end() || found->second != "false");
}

// What a refusal says: the message of an error object in any of the peers' forms, or the body's beginning.
std::string SentenceOf(const client::HttpAnswer& answer) {
  const Json value = Json::parse(answer.body, nullptr, false);
  if (value.is_object()) {
    const Json& error = value.contains("error") ? value["error"] : value;
    if (error.is_string()) return error.get<std::string>();
    if (error.is_object() && error.contains("message") && error["message"].is_string()) {
      return error["message"].get<std::string>();
    }
  }
  return answer.body.substr(0, 200);
}

Json PromptValue(const Prompt& prompt) {
  return std::visit([](const auto& value) { return Json(value); }, prompt);
}

std::optional<int64_t> CountOf(const Json& object, const char* name) {
  if (!object.is_object() || !object.contains(name) || !object[name].is_number_integer()) return std::nullopt;
  return object[name].get<int64_t>();
}

std::vector<int32_t> IdsOf(const Json& object, const char* name) {
  if (!object.contains(name) || !object[name].is_array()) return {};
  return object[name].get<std::vector<int32_t>>();
}

Completion ReadOpenAi(const Json& value) {
  const Json& choice = value.at("choices").at(0);
  Completion completion;
  completion.text = choice.at("text").get<std::string>();
  if (choice.contains("finish_reason") && choice["finish_reason"].is_string()) {
    completion.finish_reason = choice["finish_reason"].get<std::string>();
  }
  if (value.contains("usage")) {
    completion.prompt_tokens = CountOf(value["usage"], "prompt_tokens");
    completion.completion_tokens = CountOf(value["usage"], "completion_tokens");
  }
  completion.token_ids = IdsOf(choice, "token_ids");
  if (value.contains("system_fingerprint") && value["system_fingerprint"].is_string()) {
    completion.system_fingerprint = value["system_fingerprint"].get<std::string>();
  }
  if (choice.contains("logprobs")) completion.logprobs = choice["logprobs"];
  return completion;
}

Completion ReadSglang(const Json& value) {
  const Json& meta = value.at("meta_info");
  Completion completion;
  completion.text = value.at("text").get<std::string>();
  if (meta.contains("finish_reason") && meta["finish_reason"].is_object()) {
    completion.finish_reason = meta["finish_reason"].at("type").get<std::string>();
  }
  completion.prompt_tokens = CountOf(meta, "prompt_tokens");
  completion.completion_tokens = CountOf(meta, "completion_tokens");
  completion.token_ids = IdsOf(value, "output_ids");
  return completion;
}

}  // namespace

CompletionServer::CompletionServer(const ServerOptions& options)
    : options_(options), client_(options.connection) {}

void CompletionServer::Cancel() {
  cancelled_ = true;
  client_.Cancel();
}

Json CompletionServer::Answered(std::string_view path, const std::string& body) {
  const std::string server = options_.connection.server.ToString();
  const Deadline give_up = Clock::now() + options_.busy_limit;
  for (;;) {
    const client::HttpAnswer answer = client_.Post(path, body);
    if (IsBusy(answer) && Clock::now() < give_up) {
      const Deadline next = std::min(give_up, Clock::now() + PauseOf(answer));
      while (Clock::now() < next && !cancelled_) std::this_thread::sleep_for(kLook);
      continue;
    }
    if (answer.status == 429 || answer.status >= 500) {
      Fail(ErrorKind::kNetwork, "{}{} answers {}: {}", server, path, answer.status, SentenceOf(answer));
    }
    if (!answer.ok()) {
      Fail(ErrorKind::kBadRequest, "{}{} refuses the request ({}): {}", server, path, answer.status,
           SentenceOf(answer));
    }
    Json value = Json::parse(answer.body, nullptr, false);
    if (value.is_discarded()) {
      Fail(ErrorKind::kNetwork, "{}{} answers {} with something that is not JSON: {}", server, path,
           answer.status, answer.body.substr(0, 200));
    }
    return value;
  }
}

std::string CompletionServer::BodyOf(const CompletionRequest& request) const {
  Json body;
  if (options_.api == Api::kSglang) {
    body[std::holds_alternative<std::string>(request.prompt) ? "text" : "input_ids"] =
        PromptValue(request.prompt);
    Json& sampling = body["sampling_params"];
    sampling["max_new_tokens"] = request.max_tokens;
    sampling["temperature"] = 0;
    sampling["top_p"] = 1;
    if (!request.stop.empty()) sampling["stop"] = request.stop;
    return ToText(body);
  }
  body["model"] = options_.model;
  body["prompt"] = PromptValue(request.prompt);
  body["max_tokens"] = request.max_tokens;
  body["temperature"] = 0;
  body["top_p"] = 1;
  if (!request.stop.empty()) body["stop"] = request.stop;
  if (request.prompt_logprobs) {
    body["echo"] = true;
    body["logprobs"] = 1;
  }
  if (request.token_ids) body["return_token_ids"] = true;
  return ToText(body);
}

Completion CompletionServer::Complete(const CompletionRequest& request) {
  const bool sglang = options_.api == Api::kSglang;
  const Json value = Answered(sglang ? "/generate" : "/v1/completions", BodyOf(request));
  try {
    return sglang ? ReadSglang(value) : ReadOpenAi(value);
  } catch (const Json::exception&) {
    Fail(ErrorKind::kNetwork, "{} answers a completion without its text: {}",
         options_.connection.server.ToString(), ToText(value).substr(0, 200));
  }
}

std::string CompletionServer::FirstModel() {
  const client::HttpAnswer answer = client_.Get("/v1/models");
  const Json value = Json::parse(answer.body, nullptr, false);
  try {
    if (answer.ok()) return value.at("data").at(0).at("id").get<std::string>();
  } catch (const Json::exception&) {
  }
  Fail(ErrorKind::kNetwork,
       "{}/v1/models names no model (status {}: {}); give the model's name with --model, or another server",
       options_.connection.server.ToString(), answer.status, SentenceOf(answer));
}

ServerOptions WithModel(ServerOptions options) {
  if (options.model.empty() && options.api == Api::kOpenAi) {
    options.model = CompletionServer(options).FirstModel();
  }
  return options;
}

std::optional<std::vector<int32_t>> CompletionServer::Tokenize(const std::string& text) {
  for (const char* name : {"prompt", "content"}) {  // vLLM's name for it and sluice's, then llama.cpp's
    Json body;
    if (!options_.model.empty()) body["model"] = options_.model;
    body[name] = text;
    body["add_special_tokens"] = false;
    const client::HttpAnswer answer = client_.Post("/tokenize", ToText(body));
    const Json value = Json::parse(answer.body, nullptr, false);
    if (answer.ok() && value.is_object() && value.contains("tokens")) return IdsOf(value, "tokens");
  }
  return std::nullopt;
}

}  // namespace sluice::evaluate
