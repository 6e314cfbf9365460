#include "bench/serving_result.h"

#include <fmt/format.h>

namespace sluice::bench {
namespace {

constexpr int kWidth = 50;

std::string Rule(const std::string& title, char fill) {
  return fmt::format(
      "{}\n", fill == '=' ? fmt::format("{:=^{}}", title, kWidth) : fmt::format("{:-^{}}", title, kWidth));
}
std::string Line(const std::string& name, const std::string& value) {
  return fmt::format("{:<40} {:<10}\n", name, value);
}
std::string Line(const std::string& name, int64_t value) {
  return fmt::format("{:<40} {:<10}\n", name, value);
}
std::string Line(const std::string& name, double value) {
  return fmt::format("{:<40} {:<10.2f}\n", name, value);
}

std::string Lines(const std::string& what, const Summary& summary) {
  return Line(fmt::format("Mean {} (ms):", what), summary.mean) +
         Line(fmt::format("Median {} (ms):", what), summary.median) +
         Line(fmt::format("P90 {} (ms):", what), summary.p90) +
         Line(fmt::format("P95 {} (ms):", what), summary.p95) +
         Line(fmt::format("P99 {} (ms):", what), summary.p99);
}

void AddSummary(const std::string& what, const Summary& summary, Json& result) {
  result[fmt::format("mean_{}_ms", what)] = summary.mean;
  result[fmt::format("median_{}_ms", what)] = summary.median;
  result[fmt::format("std_{}_ms", what)] = summary.std;
  result[fmt::format("p90_{}_ms", what)] = summary.p90;
  result[fmt::format("p95_{}_ms", what)] = summary.p95;
  result[fmt::format("p99_{}_ms", what)] = summary.p99;
}

// A number where it is one, as peers have it.
Json RateOf(const std::string& rate) {
  const Json number = Json::parse(rate, nullptr, /*allow_exceptions=*/false);
  return number.is_number() ? number : Json(rate);
}

std::string CacheLines(const ServingMetrics& metrics) {
  const double rate = metrics.input_tokens == 0 ? 0.0
                                                : 100.0 * static_cast<double>(metrics.cached_tokens) /
                                                      static_cast<double>(metrics.input_tokens);
  return Rule("Cache Hit Details", '-') + Line("Total prompt tokens:", metrics.input_tokens) +
         Line("Total cached tokens:", metrics.cached_tokens) +
         fmt::format("{:<40} {:.1f}%\n", "Cache hit rate:", rate);
}

}  // namespace

std::string ResultBlock(const RunLabels& labels, const ServingMetrics& metrics) {
  std::string block = Rule(" Serving Benchmark Result ", '=');
  block += Line("Backend:", labels.backend);
  block += Line("Traffic request rate:", labels.request_rate);
  block += labels.max_concurrency > 0 ? Line("Max request concurrency:", labels.max_concurrency)
                                      : Line("Max request concurrency:", "not set");
  block += Line("Successful requests:", metrics.completed);
  if (metrics.failed > 0) block += Line("Failed requests:", metrics.failed);
  block += Line("Benchmark duration (s):", metrics.seconds);
  block += Line("Total input tokens:", metrics.input_tokens);
  block += Line("Total input text tokens:", metrics.input_tokens);
  block += Line("Total generated tokens:", metrics.output_tokens);
  block += Line("Request throughput (req/s):", metrics.request_throughput);
  block += Line("Input token throughput (tok/s):", metrics.input_throughput);
  block += Line("Output token throughput (tok/s):", metrics.output_throughput);
  block += Line("Peak output token throughput (tok/s):", metrics.peak_output_throughput);
  block += Line("Peak concurrent requests:", metrics.peak_requests);
  block += Line("Total token throughput (tok/s):", metrics.total_throughput);
  block += Line("Concurrency:", metrics.concurrency);
  block += Rule("End-to-End Latency", '-') + Lines("E2E Latency", metrics.e2e_ms);
  block += Rule("Time to First Token", '-') + Lines("TTFT", metrics.ttft_ms);
  block += Rule("Time per Output Token (excl. 1st token)", '-') + Lines("TPOT", metrics.tpot_ms);
  block += Rule("Inter-Token Latency", '-') + Lines("ITL", metrics.itl_ms);
  block += Line("Max ITL (ms):", metrics.itl_ms.max);
  if (labels.cache_report) block += CacheLines(metrics);
  block += Rule("", '=');
  if (!labels.ended_early.empty()) block += fmt::format("Ended early: {}\n", labels.ended_early);
  return block;
}

Json ServingResult(const RunLabels& labels, const ServingMetrics& metrics) {
  Json result = {
      {"kind", "serve"},
      {"backend", labels.backend},
      {"model", labels.model},
      {"dataset_name", labels.dataset},
      {"request_rate", RateOf(labels.request_rate)},
      {"max_concurrency", labels.max_concurrency > 0 ? Json(labels.max_concurrency) : Json(nullptr)},
      {"random_input_len", labels.input_len},
      {"random_output_len", labels.output_len},
      {"random_range_ratio", labels.range_ratio},
      {"seed", labels.seed},
      {"ended_early", labels.ended_early.empty() ? Json(nullptr) : Json(labels.ended_early)},
      {"duration", metrics.seconds},
      {"completed", metrics.completed},
      {"failed", metrics.failed},
      {"total_input_tokens", metrics.input_tokens},
      {"total_input_text_tokens", metrics.input_tokens},
      {"total_output_tokens", metrics.output_tokens},
      {"total_cached_tokens", metrics.cached_tokens},
      {"request_throughput", metrics.request_throughput},
      {"input_throughput", metrics.input_throughput},
      {"output_throughput", metrics.output_throughput},
      {"total_throughput", metrics.total_throughput}};
  AddSummary("e2e_latency", metrics.e2e_ms, result);
  AddSummary("ttft", metrics.ttft_ms, result);
  AddSummary("tpot", metrics.tpot_ms, result);
  AddSummary("itl", metrics.itl_ms, result);
  result["max_itl_ms"] = metrics.itl_ms.max;
  result["concurrency"] = metrics.concurrency;
  result["max_output_tokens_per_s"] = metrics.peak_output_throughput;
  result["max_concurrent_requests"] = metrics.peak_requests;
  return result;
}

void AddDetails(const std::vector<RequestRecord>& records, Json& result) {
  for (const char* name : {"input_lens", "output_lens", "ttfts", "itls", "generated_texts", "errors"}) {
    result[name] = Json::array();
  }
  for (const RequestRecord& record : records) {
    Json itls = Json::array();
    for (size_t i = 1; i < record.chunk_ns.size(); ++i) {
      itls.push_back(static_cast<double>(record.chunk_ns[i] - record.chunk_ns[i - 1]) / 1e9);
    }
    result["input_lens"].push_back(record.prompt_tokens);
    result["output_lens"].push_back(record.ok() ? record.output_tokens : 0);
    result["ttfts"].push_back(record.ok() ? TtftMs(record) / 1e3 : 0.0);
    result["itls"].push_back(std::move(itls));
    result["generated_texts"].push_back(record.text);
    result["errors"].push_back(record.error);
  }
}

}  // namespace sluice::bench
