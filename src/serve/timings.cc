#include "serve/timings.h"

namespace sluice::serve {
namespace {

Json Milliseconds(int64_t begin_ns, int64_t end_ns) {
  if (begin_ns == 0 || end_ns == 0) return nullptr;
  return static_cast<double>(end_ns - begin_ns) * 1e-6;
}

Json Rate(int64_t tokens, const Json& milliseconds) {
  if (milliseconds.is_null() || milliseconds.get<double>() <= 0) return nullptr;
  return static_cast<double>(tokens) / milliseconds.get<double>() * 1e3;
}

}  // namespace

Json TimingsOf(const RequestRecord& record, int64_t cached_tokens, int64_t now_ns) {
  const int64_t end_ns = record.ended_ns > 0 ? record.ended_ns : now_ns;
  const int64_t computed = record.prompt_tokens - cached_tokens;
  const Json prompt = Milliseconds(record.started_ns, record.first_token_ns);
  const Json answer = Milliseconds(record.first_token_ns, end_ns);
  return {{"cache_n", cached_tokens},
          {"prompt_n", computed},
          {"predicted_n", record.answer_tokens},
          {"queue_ms", Milliseconds(record.submitted_ns, record.started_ns)},
          {"prompt_ms", prompt},
          {"first_token_ms", Milliseconds(record.submitted_ns, record.first_token_ns)},
          {"predicted_ms", answer},
          {"total_ms", Milliseconds(record.submitted_ns, end_ns)},
          {"prompt_per_second", Rate(computed, prompt)},
          {"predicted_per_second", Rate(record.answer_tokens - 1, answer)}};
}

}  // namespace sluice::serve
