#include "serve/metric_names.h"

#include <algorithm>

namespace sluice::serve {
namespace {

constexpr std::string_view kPrefix = "sluice_";

}  // namespace

const std::vector<MetricAlias>& MetricAliases() {
  static const std::vector<MetricAlias> aliases{
      {"num_running_reqs", "num_running_reqs", "num_requests_running"},
      {"num_queue_reqs", "num_queue_reqs", "num_requests_waiting"},
      {"num_used_tokens", "num_used_tokens", ""},
      {"max_total_num_tokens", "max_total_num_tokens", ""},
      {"token_usage", "token_usage", "kv_cache_usage_perc"},
      {"prompt_tokens_total", "prompt_tokens_total", "prompt_tokens_total"},
      {"generation_tokens_total", "generation_tokens_total", "generation_tokens_total"},
      {"cached_tokens_total", "cached_tokens_total", "prefix_cache_hits_total"},
      {"cacheable_tokens_total", "", "prefix_cache_queries_total"},
      {"num_preemptions_total", "num_retracted_requests_total", "num_preemptions_total"},
      {"num_requests_total", "num_requests_total", ""},
      {"num_aborted_requests_total", "num_aborted_requests_total", ""},
      {"requests_finished_total", "", "request_success_total"},
      {"time_to_first_token_seconds", "time_to_first_token_seconds", "time_to_first_token_seconds"},
      {"inter_token_latency_seconds", "inter_token_latency_seconds", "inter_token_latency_seconds"},
      {"e2e_request_latency_seconds", "e2e_request_latency_seconds", "e2e_request_latency_seconds"},
      {"queue_time_seconds", "queue_time_seconds", "request_queue_time_seconds"},
      {"prefill_time_seconds", "", "request_prefill_time_seconds"},
      {"decode_time_seconds", "", "request_decode_time_seconds"},
      {"request_prompt_tokens", "prompt_tokens_histogram", "request_prompt_tokens"},
      {"request_generation_tokens", "generation_tokens_histogram", "request_generation_tokens"},
  };
  return aliases;
}

std::vector<prometheus::MetricFamily> UnderNamesOf(std::string_view system,
                                                   const std::vector<prometheus::MetricFamily>& families) {
  const auto name = system == "vllm" ? &MetricAlias::vllm : &MetricAlias::sglang;
  std::vector<prometheus::MetricFamily> again;
  for (const prometheus::MetricFamily& family : families) {
    const std::string_view ours = std::string_view(family.name).substr(kPrefix.size());
    const auto alias = std::ranges::find(MetricAliases(), ours, &MetricAlias::ours);
    if (alias == MetricAliases().end() || ((*alias).*name).empty()) continue;
    again.push_back(family);
    again.back().name = std::string(system) + ":" + std::string((*alias).*name);
  }
  return again;
}

}  // namespace sluice::serve
