#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/workload.h"
#include "cli/bench_flags.h"

namespace sluice::cli {

// What `sluice bench serve` is told: the server, the load and where its figures go.
struct BenchServeFlags {
  std::string backend = "openai";
  std::string base_url;
  std::string host = "127.0.0.1";
  int64_t port = 30000;
  std::string model;
  std::string tokenizer;
  int64_t vocab_size = 0;  // 0: not given
  std::string dataset = "random-ids";
  std::string dataset_path;
  int64_t num_prompts = 1000;
  std::vector<int64_t> input_len{1024};
  int64_t output_len = 1024;
  double range_ratio = 0.0;
  bench::SharedPrefixLoad shared;
  bool use_trace_timestamps = false;
  double slowdown = 1.0;
  bool allow_bad_lines = false;
  std::string request_rate = "inf";
  std::vector<int64_t> max_concurrency;
  uint64_t seed = 42;
  bool disable_ignore_eos = false;
  double temperature = 0.0;
  double top_p = 1.0;
  std::string extra_request_body;  // JSON
  int64_t warmup_requests = 1;
  bool flush_cache = false;
  double timeout_seconds = 600.0;
  bool cache_report = false;
  bool output_details = false;
  bool disable_tqdm = false;
  bool profile = false;
  std::string profile_output_dir;
  OutputFlags output;
};

void AddBenchServeFlags(CLI::App& command, BenchServeFlags& flags);

// Throws Error(kUsage), naming the flag, its value and what would work.
void CheckBenchServeFlags(const BenchServeFlags& flags);

// --request-rate in requests a second; inf: all at once. Throws as CheckBenchServeFlags.
double RequestRateOf(const BenchServeFlags& flags);

}  // namespace sluice::cli
