#include "serve/request_watch.h"

#include <fmt/format.h>

#include "base/log.h"

namespace sluice::serve {

void RequestWatch::Progress(int64_t tokens, int64_t started_ns, int64_t now_ns) {
  if (started_ns > 0) record_.started_ns = started_ns;
  if (tokens == 0) return;
  record_.answer_tokens += tokens;
  const auto since = [&](int64_t then_ns) { return static_cast<double>(now_ns - then_ns) * 1e-9; };
  if (record_.first_token_ns == 0) {
    record_.first_token_ns = now_ns;
    if (watchers_.metrics != nullptr) watchers_.metrics->FirstToken(since(record_.submitted_ns));
  } else if (watchers_.metrics != nullptr) {
    watchers_.metrics->NextTokens(tokens, since(last_token_ns_));
  }
  last_token_ns_ = now_ns;
}

void RequestWatch::Ended(const std::string& name, const std::string& reason, bool aborted, int64_t now_ns) {
  if (record_.ended_ns != 0) return;
  record_.ended_ns = now_ns;
  record_.aborted = aborted;
  if (watchers_.metrics != nullptr) watchers_.metrics->Ended(record_, reason);
  watchers_.log.Ended(name, reason, record_.answer_tokens, answer_);
  if (watchers_.log_times) spdlog::info("{}", Line(name, reason, record_));
}

std::string RequestWatch::Line(const std::string& name, const std::string& reason, const RequestRecord& r) {
  const auto seconds = [](int64_t begin_ns, int64_t end_ns) {
    return static_cast<double>(end_ns - begin_ns) * 1e-9;
  };
  // A request that ended early spent its last phase until its end.
  const int64_t started = r.started_ns > 0 ? r.started_ns : r.ended_ns;
  const int64_t first_token = r.first_token_ns > 0 ? r.first_token_ns : r.ended_ns;
  return fmt::format(
      "{} {}: prompt {}, answer {} tokens; queue {:.3f} s, prefill {:.3f} s, decode {:.3f} s, total {:.3f} s",
      name, reason, r.prompt_tokens, r.answer_tokens, seconds(r.submitted_ns, started),
      seconds(started, first_token), seconds(first_token, r.ended_ns), seconds(r.submitted_ns, r.ended_ns));
}

}  // namespace sluice::serve
