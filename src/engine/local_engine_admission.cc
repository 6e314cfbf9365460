#include <algorithm>
#include <utility>

#include "engine/local_engine.h"

// Which requests are let in: what the model can answer, while there is room in the queue and time to a
// deadline.
namespace sluice::engine {

RequestId LocalEngine::Submit(Request request, EventSink sink) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt == 0) Fail(ErrorKind::kBadRequest, "the prompt is empty: at least one token is needed");
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= info_.vocab_size) {
      Fail(ErrorKind::kBadRequest, "token id {} is outside the vocabulary of {}", token, info_.vocab_size);
    }
  }
  const int64_t limit = std::min(info_.context_length, info_.max_total_tokens);
  if (request.max_tokens < 0 || request.max_tokens > limit || prompt + request.max_tokens > limit) {
    Fail(ErrorKind::kBadRequest,
         "this model's maximum context length is {} tokens; the prompt has {} and max_tokens asks for {} "
         "more: shorten the prompt or lower max_tokens",
         limit, prompt, request.max_tokens);
  }
  std::unique_ptr<AnswerControl> control = AnswerControl::Of(request, info_.vocab_size);
  std::unique_lock lock(mutex_);
  if (!request.probe) AwaitRoom(lock, prompt);
  if (!ended_.empty()) throw Error(ErrorKind::kRankLost, ended_);
  if (stopping_) Fail(ErrorKind::kRankLost, "the server is shutting down");
  if (request.deadline_ns != 0) CheckDeadline(request.deadline_ns);
  const RequestId id = next_id_++;
  Running running;
  running.request = std::move(request);
  running.sink = std::move(sink);
  running.prompt_tokens = prompt;
  running.submitted_ns = NowNs();
  running.control = std::move(control);
  submitted_.emplace_back(id, std::move(running));
  ++submitted_count_;
  submitted_rows_ += prompt;
  something_.notify_all();
  return id;
}

// The rows of the request itself do not count: its prompt may be cached.
void LocalEngine::CheckDeadline(int64_t deadline_ns) const {
  const double rate = load_.prefill_tokens_per_second;
  if (rate <= 0.0) return;
  const int64_t before = load_.pending_prefill_tokens + submitted_rows_;
  const double wait = static_cast<double>(before) / rate;
  const double left = static_cast<double>(deadline_ns - NowNs()) / 1e9;
  if (wait <= left) return;
  throw DeadlineUnreachable(fmt::format("the {} prompt tokens before this request take about {:.1f} s at the "
                                        "present rate, and its deadline "
                                        "leaves {:.1f} s: give it more time, or try again later",
                                        before, wait, std::max(0.0, left)),
                            wait);
}

void LocalEngine::AwaitRoom(std::unique_lock<std::mutex>& lock, int64_t prompt) {
  const auto over = [&] { return !ended_.empty() || stopping_; };
  const auto requests = [&] { return queue_bound_.HasRequestRoom(load_.waiting + submitted_count_); };
  const auto tokens = [&] {
    return queue_bound_.HasTokenRoom(load_.waiting + submitted_count_, waiting_rows_ + submitted_rows_,
                                     prompt);
  };
  // What the scheduler has not seen yet may well be admitted at once: that takes no longer than a turn of the
  // worker.
  turn_done_.wait(lock,
                  [&] { return over() || (requests() && tokens()) || (submitted_count_ == 0 && !in_turn_); });
  if (over() || (requests() && tokens())) return;
  const double rate = load_.prefill_tokens_per_second;
  const double seconds = rate > 0.0 ? static_cast<double>(load_.pending_prefill_tokens) / rate : 0.0;
  const std::string when =
      rate > 0.0 ? fmt::format("the {} prompt tokens before it take about {:.0f} s at the present rate",
                               load_.pending_prefill_tokens, std::max(1.0, seconds))
                 : "how long that takes is not measured yet";
  if (!requests()) {
    throw QueueFull(
        fmt::format("{} requests wait already, as many as --max-queued-requests allows: try again "
                    "later; {}",
                    load_.waiting, when),
        seconds);
  }
  throw QueueFull(fmt::format("{} prompt tokens wait already, and with {} more it would be over the {} of "
                              "--max-queued-tokens: try again later; {}",
                              waiting_rows_, prompt, queue_bound_.prompt_rows, when),
                  seconds);
}

}  // namespace sluice::engine
