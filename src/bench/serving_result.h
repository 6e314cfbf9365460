#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/json.h"
#include "bench/serving_metrics.h"

namespace sluice::bench {

// What a run was, beside its figures.
struct RunLabels {
  std::string backend;
  std::string dataset;
  std::string request_rate;     // "inf", "4.0" or "trace"
  int64_t max_concurrency = 0;  // 0: not set
  int64_t input_len = 0;
  int64_t output_len = 0;
  double range_ratio = 0.0;
  uint64_t seed = 0;
  std::string model;
  std::string ended_early;  // why not all requests were sent; empty: all were
  bool cache_report = false;
};

// The block that SGLang's bench_serving prints, line by line; see docs/benchmarking.md for the lines that are
// not there and for those that only ours has. Ends with a line feed.
std::string ResultBlock(const RunLabels& labels, const ServingMetrics& metrics);

// One line of a results file: members named as SGLang's client names them, and `kind`, "serve".
Json ServingResult(const RunLabels& labels, const ServingMetrics& metrics);
// Adds what is known of every request: input_lens, output_lens, ttfts and itls (seconds), generated_texts,
// errors; of a request that failed, 0 and nothing.
void AddDetails(const std::vector<RequestRecord>& records, Json& result);

}  // namespace sluice::bench
