#include "bench/serving_metrics.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace sluice::bench {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

double Ms(int64_t ns) { return static_cast<double>(ns) / 1e6; }

// Counts by second since the first start.
void FindPeaks(const std::vector<RequestRecord>& records, ServingMetrics& metrics) {
  int64_t first = std::numeric_limits<int64_t>::max();
  int64_t last = std::numeric_limits<int64_t>::min();
  for (const RequestRecord& record : records) {
    if (!record.ok()) continue;
    first = std::min(first, record.start_ns);
    last = std::max(last, record.end_ns);
  }
  if (first > last) return;
  const auto second_of = [first](int64_t ns) { return static_cast<size_t>((ns - first) / kNsPerSecond); };
  std::vector<int64_t> chunks(second_of(last) + 1);
  std::vector<int64_t> requests(chunks.size());
  for (const RequestRecord& record : records) {
    if (!record.ok()) continue;
    for (const int64_t ns : record.chunk_ns) ++chunks[second_of(ns)];
    if (record.chunk_ns.empty()) ++chunks[second_of(record.end_ns)];
    for (size_t s = second_of(record.start_ns); s <= second_of(record.end_ns); ++s) ++requests[s];
  }
  metrics.peak_output_throughput = static_cast<double>(*std::ranges::max_element(chunks));
  metrics.peak_requests = *std::ranges::max_element(requests);
}

}  // namespace

double TtftMs(const RequestRecord& record) {
  return Ms((record.chunk_ns.empty() ? record.end_ns : record.chunk_ns.front()) - record.start_ns);
}

ServingMetrics MetricsOf(const std::vector<RequestRecord>& records, double seconds) {
  SLUICE_CHECK(seconds > 0.0);
  ServingMetrics metrics;
  metrics.seconds = seconds;
  std::vector<double> e2e, ttft, tpot, itl;
  double latency_sum_ms = 0.0;
  for (const RequestRecord& record : records) {
    if (!record.ok()) {
      ++metrics.failed;
      continue;
    }
    ++metrics.completed;
    metrics.input_tokens += record.prompt_tokens;
    metrics.output_tokens += record.output_tokens;
    metrics.cached_tokens += record.cached_tokens;
    const double latency = Ms(record.end_ns - record.start_ns);
    latency_sum_ms += latency;
    e2e.push_back(latency);
    ttft.push_back(TtftMs(record));
    if (record.output_tokens > 1) {
      tpot.push_back((latency - ttft.back()) / static_cast<double>(record.output_tokens - 1));
    }
    for (size_t i = 1; i < record.chunk_ns.size(); ++i) {
      itl.push_back(Ms(record.chunk_ns[i] - record.chunk_ns[i - 1]));
    }
  }
  const auto rate = [seconds](int64_t count) { return static_cast<double>(count) / seconds; };
  metrics.request_throughput = rate(metrics.completed);
  metrics.input_throughput = rate(metrics.input_tokens);
  metrics.output_throughput = rate(metrics.output_tokens);
  metrics.total_throughput = rate(metrics.input_tokens + metrics.output_tokens);
  metrics.concurrency = latency_sum_ms / 1e3 / seconds;
  FindPeaks(records, metrics);
  metrics.e2e_ms = SummaryOf(e2e);
  metrics.ttft_ms = SummaryOf(ttft);
  metrics.tpot_ms = SummaryOf(tpot);
  metrics.itl_ms = SummaryOf(itl);
  return metrics;
}

}  // namespace sluice::bench
