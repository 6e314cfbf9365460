#include "engine/step_log.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace sluice::engine {
namespace {

double Usage(const EngineLoad& load) {
  return static_cast<double>(load.used_tokens) /
         static_cast<double>(std::max<int64_t>(1, load.max_total_tokens));
}

std::string Shown(std::optional<double> bubble) {
  return bubble.has_value() ? fmt::format("{:.1f}", *bubble * 100.0) : "-";
}

double Rate(int64_t tokens, double seconds) { return static_cast<double>(tokens) / std::max(seconds, 1e-9); }

}  // namespace

void StepLog::Published(int64_t step, const Content& content, int64_t now_ns) {
  in_flight_.push_back({step, content, now_ns});
}

void StepLog::Completed(int64_t step, const EngineLoad& load, int64_t now_ns) {
  if (in_flight_.empty() || in_flight_.front().step != step) return;  // the scheduler has said why
  const Flight flight = in_flight_.front();
  in_flight_.pop_front();
  // With several steps under way each takes the time since the one before it was done.
  const int64_t took_ns = now_ns - std::max(last_completed_ns_, flight.published_ns);
  last_completed_ns_ = now_ns;
  if (flight.content.prompt_rows > 0) {
    spdlog::info("{}", PrefillLine(flight.content, load, static_cast<double>(took_ns) * 1e-9, bubble_()));
  }
  if (flight.content.decode_rows == 0) return;
  ++decode_steps_;
  decode_tokens_ += flight.content.decode_rows;
  decode_busy_ns_ += took_ns;
  if (decode_steps_ < interval_) return;
  spdlog::info("{}",
               DecodeLine(decode_tokens_, load, static_cast<double>(decode_busy_ns_) * 1e-9, bubble_()));
  decode_steps_ = decode_tokens_ = decode_busy_ns_ = 0;
}

std::string StepLog::PrefillLine(const Content& content, const EngineLoad& load, double seconds,
                                 std::optional<double> bubble) {
  return fmt::format(
      "Prefill batch, #new-seq: {}, #new-token: {}, #cached-token: {}, token usage: {:.2f}, #running-req: "
      "{}, "
      "#queue-req: {}, input throughput (token/s): {:.2f}, pipeline bubble (%): {}",
      content.new_sequences, content.prompt_rows, content.cached_tokens, Usage(load), load.running,
      load.waiting, Rate(content.prompt_rows, seconds), Shown(bubble));
}

std::string StepLog::DecodeLine(int64_t tokens, const EngineLoad& load, double seconds,
                                std::optional<double> bubble) {
  return fmt::format(
      "Decode batch, #running-req: {}, #token: {}, token usage: {:.2f}, gen throughput (token/s): {:.2f}, "
      "#queue-req: {}, pipeline bubble (%): {}",
      load.running, load.used_tokens, Usage(load), Rate(tokens, seconds), load.waiting, Shown(bubble));
}

}  // namespace sluice::engine
