#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "engine/engine.h"

namespace sluice::engine {

// The lines about prefill and decode in the log, at level info: one for every completed step with prompt
// rows, and one for every `decode_log_interval` completed steps with decode rows. Of one thread.
class StepLog {
 public:
  struct Content {
    int64_t prompt_rows = 0;
    int64_t decode_rows = 0;
    int64_t new_sequences = 0;  // whose first row it has
    int64_t cached_tokens = 0;  // of their prompts
  };
  // Share of the ranks' time without compute in the last busy period; nothing before the first.
  using Bubble = std::function<std::optional<double>()>;

  StepLog(int64_t decode_log_interval, Bubble bubble)
      : interval_(decode_log_interval), bubble_(std::move(bubble)) {}

  // Steps complete in the order in which they were published; times are NowNs().
  void Published(int64_t step, const Content& content, int64_t now_ns);
  void Completed(int64_t step, const EngineLoad& load, int64_t now_ns);

  // What the lines say.
  static std::string PrefillLine(const Content& content, const EngineLoad& load, double seconds,
                                 std::optional<double> bubble);
  static std::string DecodeLine(int64_t tokens, const EngineLoad& load, double seconds,
                                std::optional<double> bubble);

 private:
  struct Flight {
    int64_t step = 0;
    Content content;
    int64_t published_ns = 0;
  };

  int64_t interval_;
  Bubble bubble_;
  std::deque<Flight> in_flight_;
  int64_t last_completed_ns_ = 0;
  int64_t decode_steps_ = 0;  // since the last decode line
  int64_t decode_tokens_ = 0;
  int64_t decode_busy_ns_ = 0;  // time in which steps with decode rows were the next to complete
};

}  // namespace sluice::engine
