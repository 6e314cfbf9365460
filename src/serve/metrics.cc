#include "serve/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <string_view>
#include <vector>

namespace sluice::serve {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

constexpr std::string_view kPrefix = "sluice_";
constexpr std::string_view kSglangPrefix = "sglang:";

const Buckets kRequestSeconds{0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 60, 120, 300, 600, 1800};
const Buckets kTokenSeconds{0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1, 2, 5, 10};
const Buckets kTokenCounts{16,   32,   64,    128,   256,   512,    1024,  2048,
                           4096, 8192, 16384, 32768, 65536, 131072, 262144};

}  // namespace

struct Metrics::Series {
  explicit Series(const MetricsOptions& options)
      : sglang_names(options.sglang_names),
        labels{{"model_name", options.model_name}},
        running(Gauge("num_running_reqs", "Requests admitted and not ended")),
        queued(Gauge("num_queue_reqs", "Requests not admitted yet")),
        used_tokens(Gauge("num_used_tokens", "Cache tokens reserved, in whole pages")),
        total_tokens(Gauge("max_total_num_tokens", "Cache tokens there are")),
        usage(Gauge("token_usage", "num_used_tokens / max_total_num_tokens")),
        prompt_tokens(Counter("prompt_tokens_total", "Prompt tokens of requests that have ended")),
        generation_tokens(Counter("generation_tokens_total", "Answer tokens of requests that have ended")),
        requests(Counter("num_requests_total", "Requests that have ended, aborted ones included")),
        aborted(
            Counter("num_aborted_requests_total", "Requests that ended before their answer was complete")),
        first_token(
            Histogram("time_to_first_token_seconds", "From submission to the first token", kRequestSeconds)),
        inter_token(Histogram("inter_token_latency_seconds", "Between tokens of one answer", kTokenSeconds)),
        whole(Histogram("e2e_request_latency_seconds", "From submission to the end of the answer",
                        kRequestSeconds)),
        queue(
            Histogram("queue_time_seconds", "From submission to the first rows published", kRequestSeconds)) {
    if (!options.token_histograms) return;
    prompt_histogram = &Histogram("prompt_tokens_histogram", "Prompt tokens of a request", kTokenCounts);
    generation_histogram =
        &Histogram("generation_tokens_histogram", "Answer tokens of a request", kTokenCounts);
  }

  prometheus::Gauge& Gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(Named(name)).Help(help).Register(registry).Add(labels);
  }
  prometheus::Counter& Counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(Named(name)).Help(help).Register(registry).Add(labels);
  }
  prometheus::Histogram& Histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(Named(name)).Help(help).Register(registry).Add(labels, buckets);
  }
  static std::string Named(const char* name) { return std::string(kPrefix) + name; }

  bool sglang_names;
  prometheus::Labels labels;
  prometheus::Registry registry;
  std::mutex gauges;  // one reader of /metrics sets them and reads them
  prometheus::Gauge &running, &queued, &used_tokens, &total_tokens, &usage;
  prometheus::Counter &prompt_tokens, &generation_tokens, &requests, &aborted;
  prometheus::Histogram &first_token, &inter_token, &whole, &queue;
  prometheus::Histogram* prompt_histogram = nullptr;
  prometheus::Histogram* generation_histogram = nullptr;
};

Metrics::Metrics(const MetricsOptions& options) : series_(std::make_unique<Series>(options)) {}

Metrics::~Metrics() = default;

void Metrics::FirstToken(double seconds) { series_->first_token.Observe(seconds); }

void Metrics::NextTokens(int64_t tokens, double seconds) {
  for (int64_t i = 0; i < tokens; ++i) series_->inter_token.Observe(seconds / static_cast<double>(tokens));
}

void Metrics::Ended(const RequestRecord& record) {
  const auto seconds = [&](int64_t until_ns) {
    return static_cast<double>(until_ns - record.submitted_ns) * 1e-9;
  };
  const auto prompt = static_cast<double>(record.prompt_tokens);
  const auto answer = static_cast<double>(record.answer_tokens);
  series_->requests.Increment();
  if (record.aborted) series_->aborted.Increment();
  series_->prompt_tokens.Increment(prompt);
  series_->generation_tokens.Increment(answer);
  if (record.started_ns > 0) series_->queue.Observe(std::max(0.0, seconds(record.started_ns)));
  if (!record.aborted) series_->whole.Observe(seconds(record.ended_ns));
  if (series_->prompt_histogram != nullptr) series_->prompt_histogram->Observe(prompt);
  if (series_->generation_histogram != nullptr) series_->generation_histogram->Observe(answer);
}

std::string Metrics::Text(const engine::EngineLoad& load) {
  std::vector<prometheus::MetricFamily> families;
  {
    const std::lock_guard lock(series_->gauges);
    const auto used = static_cast<double>(load.used_tokens);
    const auto total = static_cast<double>(load.max_total_tokens);
    series_->running.Set(static_cast<double>(load.running));
    series_->queued.Set(static_cast<double>(load.waiting));
    series_->used_tokens.Set(used);
    series_->total_tokens.Set(total);
    series_->usage.Set(total > 0 ? used / total : 0.0);
    families = series_->registry.Collect();
  }
  if (series_->sglang_names) {
    std::vector<prometheus::MetricFamily> again = families;
    for (prometheus::MetricFamily& family : again) {
      family.name = std::string(kSglangPrefix) + family.name.substr(kPrefix.size());
    }
    std::move(again.begin(), again.end(), std::back_inserter(families));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace sluice::serve
