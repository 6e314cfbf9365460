#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/statistics.h"

namespace sluice::bench {

// What a load client saw of one request. Times are nanoseconds of the monotonic clock.
struct RequestRecord {
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;      // generated
  int64_t cached_tokens = 0;      // of the prompt, as far as the server says
  int64_t start_ns = 0;           // when it was about to be sent
  std::vector<int64_t> chunk_ns;  // when each streamed chunk with text had arrived
  int64_t end_ns = 0;             // when the stream's last event had arrived
  std::string error;              // why it failed; empty: it did not
  bool unreachable = false;       // it failed because the server did not answer, or not to the end
  std::string text;

  bool ok() const { return error.empty(); }
};

// The figures of a run, by the definitions of SGLang's and vLLM's serving benchmarks. Of requests that
// succeeded:
//
//   latency  end - start                         TTFT  first chunk - start; without a chunk, the latency
//   ITL      between chunks that follow          TPOT  (latency - TTFT) / (output tokens - 1), of those with
//            each other, of all requests               two tokens or more
//
// Throughputs are over the run's duration; concurrency is the sum of the latencies over it.
struct ServingMetrics {
  int64_t completed = 0;
  int64_t failed = 0;
  double seconds = 0.0;  // of the run
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  int64_t cached_tokens = 0;
  double request_throughput = 0.0;  // a second
  double input_throughput = 0.0;    // tokens a second
  double output_throughput = 0.0;
  double total_throughput = 0.0;
  double concurrency = 0.0;
  // The most chunks that arrived in one second, and the most requests under way in one; seconds are counted
  // from the first start.
  double peak_output_throughput = 0.0;
  int64_t peak_requests = 0;
  Summary e2e_ms, ttft_ms, tpot_ms, itl_ms;
};

// seconds: above 0.
ServingMetrics MetricsOf(const std::vector<RequestRecord>& records, double seconds);

// Milliseconds.
double TtftMs(const RequestRecord& record);

}  // namespace sluice::bench
