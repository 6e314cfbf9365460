#pragma once

#include <cstdint>
#include <string>

#include "serve/metrics.h"

namespace sluice::serve {

// Who wants to know how long requests take.
struct Watchers {
  Metrics* metrics = nullptr;  // none: not counted
  bool log_times = false;      // --enable-request-time-stats-logging: a line for each request that ends
};

// Times one choice of a request, from its submission to its end. Not thread-safe.
class RequestWatch {
 public:
  RequestWatch() = default;
  RequestWatch(const Watchers& watchers, int64_t prompt_tokens) : watchers_(watchers) {
    record_.prompt_tokens = prompt_tokens;
  }

  void Submitted(int64_t now_ns) { record_.submitted_ns = now_ns; }
  // An event of the engine with `tokens` more tokens of the answer.
  void Progress(int64_t tokens, int64_t started_ns, int64_t now_ns);
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
};

}  // namespace sluice::serve
