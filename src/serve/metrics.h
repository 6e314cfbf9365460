#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/engine.h"

namespace sluice::serve {

struct MetricsOptions {
  std::string model_name;         // the label of every series
  bool token_histograms = false;  // --collect-tokens-histogram
  std::string compat{};           // --metrics-compat: "sglang", "vllm" or empty (metric_names.h)
};

// The times and sizes of one request that has ended. Nanoseconds of NowNs; 0: it did not come to that.
struct RequestRecord {
  int64_t submitted_ns = 0;
  int64_t started_ns = 0;  // its first row was published
  int64_t first_token_ns = 0;
  int64_t ended_ns = 0;
  int64_t prompt_tokens = 0;
  int64_t answer_tokens = 0;
  bool aborted = false;            // by its client, by the server's end or by a fault
  int64_t prompt_tokens_done = 0;  // in the cache
  int64_t cached_tokens = 0;       // of these, there before the request
};

// Counters and histograms of the server, and GET /metrics. docs/api.md lists the names. No label has a
// request's id or text. Thread-safe.
class Metrics {
 public:
  explicit Metrics(const MetricsOptions& options);
  ~Metrics();

  void FirstToken(double seconds_since_submission);
  // `tokens` came together, `seconds` after those before them.
  void NextTokens(int64_t tokens, double seconds);
  // `reason` is one of a few: stop, length, or why it was aborted, which counts as "abort".
  void Ended(const RequestRecord& record, const std::string& reason);
  // A request was answered with an error; `code` is that of the error table.
  void Refused(const std::string& code);

  // Prometheus' text format, version 0.0.4. `report` has the ranks as of their last heartbeats: nobody is
  // waited for.
  std::string Text(const engine::EngineLoad& load, const engine::StallReport& report);

 private:
  struct Series;
  std::unique_ptr<Series> series_;
};

}  // namespace sluice::serve
