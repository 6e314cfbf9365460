#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/engine.h"

namespace sluice::serve {

struct MetricsOptions {
  std::string model_name;         // the label of every series
  bool token_histograms = false;  // --collect-tokens-histogram
  bool sglang_names = false;      // --metrics-compat sglang: every series a second time, as sglang:NAME
};

// The times and sizes of one request that has ended. Nanoseconds of NowNs; 0: it did not come to that.
struct RequestRecord {
  int64_t submitted_ns = 0;
  int64_t started_ns = 0;  // its first row was published
  int64_t first_token_ns = 0;
  int64_t ended_ns = 0;
  int64_t prompt_tokens = 0;
  int64_t answer_tokens = 0;
  bool aborted = false;  // by its client, by the server's end or by a fault
};

// Counters and histograms of the server, and GET /metrics. docs/api.md lists the names. Thread-safe.
class Metrics {
 public:
  explicit Metrics(const MetricsOptions& options);
  ~Metrics();

  void FirstToken(double seconds_since_submission);
  // `tokens` came together, `seconds` after those before them.
  void NextTokens(int64_t tokens, double seconds);
  void Ended(const RequestRecord& record);

  // Prometheus' text format, version 0.0.4.
  std::string Text(const engine::EngineLoad& load);

 private:
  struct Series;
  std::unique_ptr<Series> series_;
};

}  // namespace sluice::serve
