#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/request.h"
#include "serve/metrics.h"
#include "serve/request_log.h"

namespace sluice::serve {

// Who wants to know of requests and how long they take.
struct Watchers {
  Metrics* metrics = nullptr;  // none: not counted
  bool log_times = false;      // --enable-request-time-stats-logging: a line for each request that ends
  RequestLog log{};              // --log-requests
};

// Times one choice of a request, from its submission to its end. Not thread-safe.
class RequestWatch {
 public:
  RequestWatch() = default;
  RequestWatch(const Watchers& watchers, int64_t prompt_tokens) : watchers_(watchers) {
    record_.prompt_tokens = prompt_tokens;
  }

  void Submitted(int64_t now_ns) { record_.submitted_ns = now_ns; }
  // The line of --log-requests about a request that comes; `name` is its id.
  void Received(const std::string& name, const engine::Request& request) const {
    watchers_.log.Received(name, request);
  }
  // Text of the answer, for the line about its end.
  void Said(std::string_view text) { watchers_.log.Append(text, answer_); }
  // An event of the engine with `tokens` more tokens of the answer.
  void Progress(int64_t tokens, int64_t started_ns, int64_t now_ns);
  // How much of the prompt is in the cache, and how much of it was there before.
  void Prompt(int64_t tokens_done, int64_t cached_tokens) {
    record_.prompt_tokens_done = std::max(record_.prompt_tokens_done, tokens_done);
    record_.cached_tokens = std::max(record_.cached_tokens, cached_tokens);
  }
  // Once; `name` is the request's id, `reason` why it ended. Later calls do nothing.
  void Ended(const std::string& name, const std::string& reason, bool aborted, int64_t now_ns);

  // What has been timed so far.
  const RequestRecord& record() const { return record_; }

  // "chatcmpl-1 stop: prompt 100, answer 5 tokens; queue 0.001 s, prefill 0.5 s, decode 0.2 s, total 0.701 s"
  static std::string Line(const std::string& name, const std::string& reason, const RequestRecord& record);

 private:
  Watchers watchers_;
  RequestRecord record_;
  int64_t last_token_ns_ = 0;
  std::string answer_;  // as much of it as the log takes
};

}  // namespace sluice::serve
