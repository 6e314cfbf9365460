#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "engine/rank_set.h"

namespace sluice::pipe {

// Frames that arrive `delay` after they were sent, in order; one direction of a slow control plane.
class DelayLine {
 public:
  explicit DelayLine(Duration delay) : delay_(delay) {}
  void Push(comm::Frame frame) {
    std::lock_guard lock(mutex_);
    frames_.emplace_back(Clock::now() + delay_, std::move(frame));
    changed_.notify_all();
  }
  // The oldest frame once it is due; nothing after `timeout`, or at once when closed and empty.
  std::optional<comm::Frame> Pop(Duration timeout) {
    const Deadline deadline = Clock::now() + timeout;
    std::unique_lock lock(mutex_);
    while (frames_.empty() || Clock::now() < frames_.front().first) {
      if (frames_.empty() && closed_) return std::nullopt;
      const Deadline until = frames_.empty() ? deadline : std::min(deadline, frames_.front().first);
      changed_.wait_until(lock, until);
      if (Clock::now() >= deadline && (frames_.empty() || frames_.front().first > deadline))
        return std::nullopt;
    }
    comm::Frame frame = std::move(frames_.front().second);
    frames_.pop_front();
    return frame;
  }
  void Close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  bool closed() {
    std::lock_guard lock(mutex_);
    return closed_;
  }

 private:
  const Duration delay_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<Deadline, comm::Frame>> frames_;
  bool closed_ = false;
};

// A controller's end of a channel behind a slow control plane.
class DelayedChannel final : public comm::Channel {
 public:
  DelayedChannel(comm::Channel& inner, Duration delay)
      : inner_(inner), out_(delay), in_(delay), sender_([this] { SendDue(); }), receiver_([this] {
          Collect();
        }) {}
  ~DelayedChannel() override {
    DelayedChannel::Close();
    sender_.join();
    receiver_.join();
  }
  void Send(const comm::Frame& frame) override { out_.Push(frame); }
  void SendEncoded(std::vector<std::byte> bytes) override { out_.Push(comm::DecodeFrame(bytes)); }
  std::optional<comm::Frame> Receive(Duration timeout) override { return in_.Pop(timeout); }
  // What was sent still arrives, late.
  void Close() override {
    out_.Close();
    in_.Close();
  }

 private:
  void SendDue() {
    try {
      while (auto frame = out_.Pop(std::chrono::hours(1))) inner_.Send(*frame);
    } catch (const Error&) {  // the rank has ended
    }
  }
  void Collect() {
    try {
      while (!in_.closed()) {
        if (auto frame = inner_.Receive(std::chrono::milliseconds(50))) in_.Push(std::move(*frame));
      }
    } catch (const Error&) {  // the rank has ended
    }
  }

  comm::Channel& inner_;
  DelayLine out_;
  DelayLine in_;
  std::thread sender_;
  std::thread receiver_;
};

// Ranks whose control frames take `delay` each way; what they say to each other does not.
class DelayedControl final : public engine::RankSet {
 public:
  DelayedControl(std::unique_ptr<engine::RankSet> inner, int ranks, Duration delay)
      : inner_(std::move(inner)) {
    for (int rank = 0; rank < ranks; ++rank) {
      channels_.push_back(std::make_unique<DelayedChannel>(inner_->channel(rank), delay));
    }
  }
  ~DelayedControl() override { DelayedControl::Stop(Duration(0)); }
  comm::Channel& channel(int rank) override { return *channels_[rank]; }
  std::string ReasonGone(int rank) override { return inner_->ReasonGone(rank); }
  int ProcessId(int rank) override { return inner_->ProcessId(rank); }
  void Stop(Duration grace) override {
    for (auto& channel : channels_) channel->Close();
    inner_->Stop(grace);
  }

 private:
  std::unique_ptr<engine::RankSet> inner_;
  std::vector<std::unique_ptr<DelayedChannel>> channels_;
};

}  // namespace sluice::pipe
