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

#include "serve/metric_names.h"
#include "serve/rank_series.h"

namespace sluice::serve {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// A prefill of a million tokens takes minutes: the last bound is an hour.
const Buckets kRequestSeconds{0.05, 0.1, 0.2, 0.5, 1,   2,   3,   5,    7,    10,  15,
                              20,   30,  60,  120, 300, 600, 900, 1800, 2700, 3600};
const Buckets kTokenSeconds{0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15,
                            0.2,   0.5,   1,    2,    5,    10,   60,    600, 3600};
const Buckets kTokenCounts{16,   32,    64,    128,   256,    512,    1024,   2048,   4096,
                           8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576};
constexpr double kPageTokens = 64;

double Number(int64_t value) { return static_cast<double>(value); }

// Where a request was when it ended early.
const char* PhaseOf(const RequestRecord& record) {
  if (record.started_ns == 0) return "queue";
  return record.first_token_ns == 0 ? "prefill" : "decode";
}

}  // namespace

struct Metrics::Series {
  using Counters = prometheus::Family<prometheus::Counter>;

  explicit Series(const MetricsOptions& options)
      : compat(options.compat),
        labels{{"model_name", options.model_name}},
        running(Gauge("num_running_reqs", "Requests admitted and not ended")),
        queued(Gauge("num_queue_reqs", "Requests not admitted yet")),
        used_tokens(Gauge("num_used_tokens", "Cache tokens reserved, in whole pages")),
        total_tokens(Gauge("max_total_num_tokens", "Cache tokens there are")),
        usage(Gauge("token_usage", "num_used_tokens / max_total_num_tokens")),
        pending_prefill(
            Gauge("prefill_tokens_pending", "Prompt tokens of requests taken and not yet computed")),
        pages(prometheus::BuildGauge()
                  .Name(Named("kv_pages"))
                  .Help("Cache pages of 64 tokens: reserved by requests, kept for later prefix hits, free")
                  .Register(registry)),
        prompt_tokens(Counter("prompt_tokens_total", "Prompt tokens of requests that have ended")),
        generation_tokens(Counter("generation_tokens_total", "Answer tokens of requests that have ended")),
        cached_tokens(Counter("cached_tokens_total", "Prompt tokens that were in the cache before")),
        cacheable_tokens(
            Counter("cacheable_tokens_total", "Prompt tokens of requests that were looked up in the cache")),
        wasted_tokens(Counter("wasted_prefill_tokens_total",
                              "Prompt tokens computed for requests that ended before their first token")),
        preemptions(Counter("num_preemptions_total",
                            "Times a request gave its pages up and went on later, since the cache was full")),
        requests(Counter("num_requests_total", "Requests that have ended, aborted ones included")),
        aborted(
            Counter("num_aborted_requests_total", "Requests that ended before their answer was complete")),
        finished(CounterFamily("requests_finished_total", "Requests that have ended, by reason")),
        cancelled(CounterFamily("requests_cancelled_total",
                                "Requests that ended before their answer was complete, by where they were")),
        rejected(CounterFamily("requests_rejected_total", "Requests answered with an error, by its code")),
        first_token(
            Histogram("time_to_first_token_seconds", "From submission to the first token", kRequestSeconds)),
        inter_token(Histogram("inter_token_latency_seconds", "Between tokens of one answer", kTokenSeconds)),
        whole(Histogram("e2e_request_latency_seconds", "From submission to the end of the answer",
                        kRequestSeconds)),
        queue(
            Histogram("queue_time_seconds", "From submission to the first rows published", kRequestSeconds)),
        prefill(Histogram("prefill_time_seconds", "From the first rows published to the first token",
                          kRequestSeconds)),
        decode(Histogram("decode_time_seconds", "From the first token to the end of the answer",
                         kRequestSeconds)) {
    for (const char* reason : {"stop", "length", "abort"}) finished.Add(With("finished_reason", reason));
    for (const char* phase : {"queue", "prefill", "decode"}) cancelled.Add(With("phase", phase));
    rejected.Add(With("reason", "queue_full"));
    if (!options.token_histograms) return;
    prompt_histogram = &Histogram("request_prompt_tokens", "Prompt tokens of a request", kTokenCounts);
    generation_histogram =
        &Histogram("request_generation_tokens", "Answer tokens of a request", kTokenCounts);
  }

  prometheus::Gauge& Gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(Named(name)).Help(help).Register(registry).Add(labels);
  }
  Counters& CounterFamily(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(Named(name)).Help(help).Register(registry);
  }
  prometheus::Counter& Counter(const char* name, const char* help) {
    return CounterFamily(name, help).Add(labels);
  }
  prometheus::Histogram& Histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(Named(name)).Help(help).Register(registry).Add(labels, buckets);
  }
  prometheus::Labels With(const char* name, const std::string& value) const {
    prometheus::Labels all = labels;
    all[name] = value;
    return all;
  }
  static std::string Named(const char* name) { return std::string("sluice_") + name; }

  std::string compat;
  prometheus::Labels labels;
  prometheus::Registry registry;
  std::mutex gauges;  // one reader of /metrics sets them and reads them
  prometheus::Gauge &running, &queued, &used_tokens, &total_tokens, &usage, &pending_prefill;
  prometheus::Family<prometheus::Gauge>& pages;
  prometheus::Counter &prompt_tokens, &generation_tokens, &cached_tokens, &cacheable_tokens, &wasted_tokens,
      &preemptions, &requests, &aborted;
  Counters &finished, &cancelled, &rejected;
  prometheus::Histogram &first_token, &inter_token, &whole, &queue, &prefill, &decode;
  prometheus::Histogram* prompt_histogram = nullptr;
  prometheus::Histogram* generation_histogram = nullptr;
};

Metrics::Metrics(const MetricsOptions& options) : series_(std::make_unique<Series>(options)) {}

Metrics::~Metrics() = default;

void Metrics::FirstToken(double seconds) { series_->first_token.Observe(seconds); }

void Metrics::NextTokens(int64_t tokens, double seconds) {
  for (int64_t i = 0; i < tokens; ++i) series_->inter_token.Observe(seconds / Number(tokens));
}

void Metrics::Ended(const RequestRecord& record, const std::string& reason) {
  Series& series = *series_;
  const auto seconds = [](int64_t from_ns, int64_t until_ns) {
    return std::max(0.0, Number(until_ns - from_ns) * 1e-9);
  };
  series.requests.Increment();
  if (record.aborted) {
    series.aborted.Increment();
    series.cancelled.Add(series.With("phase", PhaseOf(record))).Increment();
    if (record.first_token_ns == 0) {
      series.wasted_tokens.Increment(Number(record.prompt_tokens_done - record.cached_tokens));
    }
  }
  series.finished.Add(series.With("finished_reason", record.aborted ? "abort" : reason)).Increment();
  series.prompt_tokens.Increment(Number(record.prompt_tokens));
  series.generation_tokens.Increment(Number(record.answer_tokens));
  if (record.started_ns > 0) {
    series.cached_tokens.Increment(Number(record.cached_tokens));
    series.cacheable_tokens.Increment(Number(record.prompt_tokens));
    series.queue.Observe(seconds(record.submitted_ns, record.started_ns));
    if (record.first_token_ns > 0) {
      series.prefill.Observe(seconds(record.started_ns, record.first_token_ns));
      series.decode.Observe(seconds(record.first_token_ns, record.ended_ns));
    }
  }
  if (!record.aborted) series.whole.Observe(seconds(record.submitted_ns, record.ended_ns));
  if (series.prompt_histogram != nullptr) series.prompt_histogram->Observe(Number(record.prompt_tokens));
  if (series.generation_histogram != nullptr) {
    series.generation_histogram->Observe(Number(record.answer_tokens));
  }
}

void Metrics::Refused(const std::string& code) {
  series_->rejected.Add(series_->With("reason", code)).Increment();
}

std::string Metrics::Text(const engine::EngineLoad& load, const engine::StallReport& report) {
  Series& series = *series_;
  std::vector<prometheus::MetricFamily> families;
  {
    const std::lock_guard lock(series.gauges);
    const double used = Number(load.used_tokens);
    const double total = Number(load.max_total_tokens);
    series.running.Set(Number(load.running));
    series.queued.Set(Number(load.waiting));
    series.used_tokens.Set(used);
    series.total_tokens.Set(total);
    series.usage.Set(total > 0 ? used / total : 0.0);
    series.pending_prefill.Set(Number(load.pending_prefill_tokens));
    series.preemptions.Increment(Number(load.preempted) - series.preemptions.Value());
    const auto pages = [&](const char* state, double tokens) {
      series.pages.Add(series.With("state", state)).Set(tokens / kPageTokens);
    };
    const double cached = Number(load.cached_tokens);
    pages("used", used);
    pages("cached", cached);
    pages("free", std::max(0.0, total - used - cached));
    families = series.registry.Collect();
  }
  std::ranges::move(RankSeries(report, series.labels), std::back_inserter(families));
  if (!series.compat.empty()) {
    std::ranges::move(UnderNamesOf(series.compat, families), std::back_inserter(families));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace sluice::serve
