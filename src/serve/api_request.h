#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "serve/chat_dialect.h"
#include "text/chat_message.h"
#include "text/grammar.h"

namespace sluice::serve {

// One prompt of a completions request: text, or token ids.
struct Prompt {
  std::optional<std::string> text;
  std::vector<int32_t> ids;  // without text
};

// What the answer must be.
struct AnswerConstraint {
  enum class Kind { kText, kJsonObject, kJsonSchema, kRegex, kCalls };
  Kind kind = Kind::kText;
  std::string source;                     // the schema, the regular expression, or the rules of calls
  std::string param = "response_format";  // the field, for errors
};

// What both endpoints share, with every number inside request_limits.
struct ApiRequest {
  std::string model;
  bool chat = false;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  std::optional<int64_t> max_tokens;
  std::optional<float> temperature;  // absent, as the next two: SamplingDefaults
  std::optional<float> top_p;
  std::optional<int32_t> top_k;  // 0: all
  float min_p = 0.0F;
  float frequency_penalty = 0.0F;
  float presence_penalty = 0.0F;
  float repetition_penalty = 1.0F;
  std::vector<std::pair<int32_t, float>> logit_bias;
  int64_t min_tokens = 0;
  AnswerConstraint constraint;
  std::shared_ptr<const text::Grammar> grammar;  // of the format, when it is compiled
  std::optional<int64_t> seed;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool include_stop = false;  // what ended the answer is part of it
  bool ignore_eos = false;
  bool return_token_ids = false;
  bool skip_special_tokens = true;
  std::optional<int32_t> top_logprobs;     // set: log-probabilities, with so many alternatives
  std::optional<int32_t> prompt_logprobs;  // set: those of the prompt's tokens, with so many alternatives
  int64_t n = 1;                           // answers to each prompt
  int64_t priority = 0;
  std::string request_id;     // the client's own name for the request; empty: none
  std::string cache_salt;     // prefixes are shared only with requests of the same salt
  int64_t truncate_to = 0;    // keep so many tokens of the prompt's end; -1: as many as fit; 0: never cut
  int64_t deadline_ms = 0;    // from arrival to the whole answer; 0: none
  bool progress = false;      // chunks that say how much of the prompt is done
  bool timings = false;       // with the answer
  bool timings_each = false;  // with every chunk
  std::vector<std::string> ignored_fields;
};

struct CompletionRequest : ApiRequest {
  std::vector<Prompt> prompts;
  bool echo = false;
};

// SGLang's native request.
struct GenerateRequest : ApiRequest {
  std::vector<Prompt> prompts;
  bool batch = false;                    // the answer is a list, also with one prompt
  bool segments = false;                 // a stream's events have only what is new
  bool logprob_texts = false;            // entries of log-probabilities have the token's text
  std::optional<int64_t> logprob_start;  // set: log-probabilities of the prompt from this token on
};

enum class ToolChoice { kNone, kAuto, kRequired, kNamed };

struct ChatRequest : ApiRequest {
  // With the tools in the first one. One is put in front for them where the client's first is no system
  // message; then `first_message` is -1: the index that messages[0] has for the client.
  std::vector<text::ChatMessage> messages;
  int64_t first_message = 0;
  ChatDialect dialect;
  bool thinking = false;
  bool clear_thinking = true;           // GLM: earlier turns are shown without their reasoning
  bool high_effort = false;             // GLM-5.2: less than the most
  std::vector<std::string> tool_names;  // that may be called; empty with kNone
  ToolChoice tool_choice = ToolChoice::kNone;
  bool one_call = false;
  bool separate_reasoning = true;  // else reasoning is part of the content, with its mark
  bool include_reasoning = true;
  bool continue_final_message = false;
  bool add_generation_prompt = true;
};

}  // namespace sluice::serve
