#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "client/http_client.h"
#include "evaluate/json.h"

namespace sluice::evaluate {

// OpenAI's POST /v1/completions, or SGLang's POST /generate, which the reference's tools use.
enum class Api { kOpenAi, kSglang };

struct ServerOptions {
  client::ClientOptions connection;
  Api api = Api::kOpenAi;
  std::string model;  // as it stands in requests to /v1/completions
  // How long one request is sent again while the server says 429 or 503.
  Duration busy_limit = std::chrono::minutes(10);
};

using Prompt = std::variant<std::string, std::vector<int32_t>>;  // a text, or token ids

struct CompletionRequest {
  Prompt prompt = {};
  int64_t max_tokens = 16;
  std::vector<std::string> stop = {};
  bool prompt_logprobs = false;  // only of Api::kOpenAi, as `echo` with `logprobs`
  bool token_ids = false;        // asks for the answer's ids, which sluice and vLLM give; others ignore it
};

struct Completion {
  std::string text;
  std::string finish_reason;
  std::optional<int64_t> prompt_tokens;  // none: the server sends no usage
  std::optional<int64_t> completion_tokens;
  std::vector<int32_t> token_ids;
  std::string system_fingerprint;
  Json logprobs;  // of the first choice, as it came
};

// Greedy completions (temperature 0, top_p 1) from one server over one connection. Error(kNetwork) when the
// server cannot be reached, falls silent, stays busy or answers something else than the API promises;
// Error(kBadRequest) with its own sentence when it refuses.
class CompletionServer {
 public:
  explicit CompletionServer(const ServerOptions& options);

  Completion Complete(const CompletionRequest& request);
  // The body that Complete sends.
  std::string BodyOf(const CompletionRequest& request) const;
  // The first model of /v1/models.
  std::string FirstModel();
  // The ids of a text by POST /tokenize, which sluice, vLLM and llama.cpp's server have; nullopt where there
  // is no such route.
  std::optional<std::vector<int32_t>> Tokenize(const std::string& text);

  // Ends the call under way and every later one. From any thread.
  void Cancel();

 private:
  // Sends until the server is no longer busy; answers of 2xx only.
  Json Answered(std::string_view path, const std::string& body);

  const ServerOptions options_;
  client::HttpClient client_;
  std::atomic<bool> cancelled_{false};
};

// The same with a model's name: the server's first, where none was given and the API wants one.
ServerOptions WithModel(ServerOptions options);

}  // namespace sluice::evaluate
