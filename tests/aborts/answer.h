#pragma once

#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/request.h"

namespace sluice::aborts {

// What one request was answered. Thread-safe; shared with the sink, so that it may be left alone.
class Answer : public std::enable_shared_from_this<Answer> {
 public:
  static std::shared_ptr<Answer> Make() { return std::make_shared<Answer>(); }

  engine::EventSink sink() {
    return [self = shared_from_this()](engine::Event event) { self->Take(std::move(event)); };
  }

  // The worker's thread stops in the event after which `tokens` prompt tokens are done and `generated` are
  // sampled, until Resume.
  void StopAt(int64_t prompt_tokens, int64_t generated) {
    std::lock_guard lock(mutex_);
    stop_at_ = {prompt_tokens, generated};
    stops_ = true;
  }
  void Resume() {
    std::lock_guard lock(mutex_);
    stops_ = false;
    changed_.notify_all();
  }
  bool AwaitStopped() {
    return Await([this] { return stopped_; });
  }
  bool AwaitTokens(int64_t count) {
    return Await([this, count] { return std::ssize(tokens_) >= count; });
  }
  bool AwaitEnd() {
    return Await([this] { return finish_.has_value(); });
  }

  std::optional<engine::FinishReason> finish() const {
    std::lock_guard lock(mutex_);
    return finish_;
  }
  std::vector<int32_t> tokens() const {
    std::lock_guard lock(mutex_);
    return tokens_;
  }
  // Every log-probability there is, of the prompt's tokens and of the answer's, as bits: equal when all are.
  std::vector<uint32_t> bits() const {
    std::lock_guard lock(mutex_);
    return bits_;
  }
  // Events that came after the last one.
  int64_t late_events() const {
    std::lock_guard lock(mutex_);
    return late_events_;
  }

 private:
  bool Await(const std::function<bool()>& condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::minutes(1), condition);
  }

  void AddBits(const std::vector<engine::TokenLogprobs>& logprobs) {
    const auto add = [this](float value) {
      uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof(bits));
      bits_.push_back(bits);
    };
    for (const engine::TokenLogprobs& of : logprobs) {
      add(of.logprob);
      for (const engine::LogprobEntry& entry : of.top) {
        bits_.push_back(static_cast<uint32_t>(entry.token));
        add(entry.logprob);
      }
    }
  }

  void Take(engine::Event event) {
    std::unique_lock lock(mutex_);
    if (finish_.has_value()) ++late_events_;
    tokens_.insert(tokens_.end(), event.tokens.begin(), event.tokens.end());
    AddBits(event.prompt_logprobs);
    AddBits(event.logprobs);
    finish_ = event.finish;
    changed_.notify_all();
    if (!stops_ || event.prompt_tokens_done != stop_at_.first || std::ssize(tokens_) != stop_at_.second)
      return;
    stopped_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !stops_; });
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> tokens_;
  std::vector<uint32_t> bits_;
  std::optional<engine::FinishReason> finish_;
  int64_t late_events_ = 0;
  std::pair<int64_t, int64_t> stop_at_;
  bool stops_ = false;
  bool stopped_ = false;
};

}  // namespace sluice::aborts
