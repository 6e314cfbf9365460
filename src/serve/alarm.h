#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

#include "serve/byte_stream.h"

namespace sluice::serve {

// Calls something after a time, unless it is set anew or stopped before. On the strand of its executor.
class Alarm {
 public:
  explicit Alarm(const ByteStream::executor_type& executor) : timer_(executor) {}

  // `expired` keeps alive what it needs, this alarm among it.
  void Set(std::chrono::milliseconds time, std::function<void()> expired) {
    const uint64_t turn = ++turn_;
    timer_.expires_after(time);
    timer_.async_wait([this, turn, expired = std::move(expired)](boost::system::error_code) {
      if (turn == turn_) expired();
    });
  }
  void Stop() {
    ++turn_;
    timer_.cancel();
  }

 private:
  boost::asio::steady_timer timer_;
  uint64_t turn_ = 0;
};

}  // namespace sluice::serve
