#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/chat_deepseek_v32.h"

namespace sluice::serve {

// One prompt of a completions request: text, or token ids.
struct Prompt {
  std::optional<std::string> text;
  std::vector<int32_t> ids;  // without text
};

// What both endpoints share, with every number inside request_limits.
struct ApiRequest {
  std::string model;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  std::optional<int64_t> max_tokens;
  std::optional<float> temperature;  // absent, as the next two: SamplingDefaults
  std::optional<float> top_p;
  std::optional<int32_t> top_k;  // 0: all
  std::optional<int64_t> seed;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool return_token_ids = false;
  bool skip_special_tokens = true;
  std::optional<int32_t> top_logprobs;  // set: log-probabilities, with so many alternatives
  std::vector<std::string> ignored_fields;
};

struct CompletionRequest : ApiRequest {
  std::vector<Prompt> prompts;
  bool echo = false;
};

struct ChatRequest : ApiRequest {
  std::vector<text::ChatMessage> messages;
  bool thinking = false;
};

}  // namespace sluice::serve
