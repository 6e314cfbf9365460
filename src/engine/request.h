#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sluice::text {
class Grammar;
}

namespace sluice::engine {

using RequestId = uint64_t;

// What a client wants, already as token ids and already validated against the limits of ServerInfo.
struct Request {
  std::vector<int32_t> prompt;
  int64_t max_tokens = 16;   // 0: prefill only
  float temperature = 1.0F;  // 0: greedy
  float top_p = 1.0F;
  int32_t top_k = 0;   // 0: all
  float min_p = 0.0F;  // tokens less likely than this share of the likeliest are left out; 0: none
  uint64_t seed = 0;
  float frequency_penalty = 0.0F;  // subtracted once per occurrence in the answer
  float presence_penalty = 0.0F;   // subtracted once from every token of the answer
  float repetition_penalty =
      1.0F;  // of tokens of prompt and answer: divides a logit above 0, else multiplies
  std::vector<std::pair<int32_t, float>> logit_bias;  // added to the logits of these tokens
  int64_t min_tokens = 0;                             // stop tokens cannot be chosen before so many tokens
  std::shared_ptr<const text::Grammar> grammar;       // what the answer must match; null: anything
  int32_t grammar_after = -1;  // it begins when this token has been sampled (end of thinking); -1: at once
  int64_t priority = 0;        // larger goes first, with --enable-priority-scheduling
  bool probe = false;  // of health: ahead of every priority, at the next chunk boundary, beside the limits
  int64_t deadline_ns = 0;              // on the monotonic clock (NowNs): ended when it has passed; 0: none
  std::string cache_salt;               // requests share cached prefixes only with those of the same salt
  int32_t top_logprobs = 0;             // of each generated token
  bool prompt_logprobs = false;         // log-probability of each prompt token given those before it (echo)
  std::vector<int32_t> stop_token_ids;  // end the answer; not part of it
};

struct LogprobEntry {
  int32_t token = 0;
  float logprob = 0.0F;
};
struct TokenLogprobs {
  float logprob = 0.0F;
  std::vector<LogprobEntry> top;  // likeliest first
};

enum class FinishReason { kStop, kLength, kAbort, kError, kDeadline };

// One thing that happened to a request. Events of a request arrive in order, the last has `finish`.
struct Event {
  // Tokens sampled since the last event, with their log-probabilities.
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;
  // When the first row of the prompt was published, on the monotonic clock (NowNs); 0: not yet.
  int64_t started_ns = 0;
  // Prompt progress: tokens of the prompt in the cache so far, and how many of them were there before.
  int64_t prompt_tokens_done = 0;
  int64_t cached_tokens = 0;
  // With prompt_logprobs, once, when the prompt is done: entry i is of prompt token i; entry 0 is empty.
  std::vector<TokenLogprobs> prompt_logprobs;
  std::optional<FinishReason> finish;
  int32_t stop_token = -1;      // with kStop: which one; -1: the grammar allows nothing more
  TokenLogprobs stop_logprobs;  // and its log-probabilities, as those of `logprobs`
  std::string error;            // with kError: the sentence
};

// Called on an engine thread; must not block and must not call the engine.
using EventSink = std::function<void(Event)>;

}  // namespace sluice::engine
