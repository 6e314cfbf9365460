#include "comm/faulty_channel.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"

namespace sluice::comm {
namespace {

class FaultyChannel final : public Channel {
 public:
  FaultyChannel(std::unique_ptr<Channel> inner, FrameFaults faults)
      : inner_(std::move(inner)), faults_(std::move(faults)), thread_([this] { Run(); }) {
    SetPeer(inner_->peer());
  }
  ~FaultyChannel() override {
    FaultyChannel::Close();
    thread_.join();
  }

  void Send(const Frame& frame) override { Pass(EncodeFrame(frame), faults_(frame)); }
  void SendEncoded(std::vector<std::byte> bytes) override { Pass(std::move(bytes), std::nullopt); }
  std::optional<Frame> Receive(Duration timeout) override { return inner_->Receive(timeout); }
  void LimitReceived(size_t payload_bytes) override { inner_->LimitReceived(payload_bytes); }
  void Close() override {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
      changed_.notify_all();
    }
    inner_->Close();
  }

 private:
  struct Waiting {
    std::vector<std::byte> bytes;
    Deadline due;
    bool overtakable = false;  // the next frame goes first
  };

  void Pass(std::vector<std::byte> bytes, const std::optional<Fault>& fault) {
    std::unique_lock lock(mutex_);
    const auto action = fault.has_value() ? std::optional(fault->action) : std::nullopt;
    if (action == FaultAction::kDrop) return;
    if (action == FaultAction::kCorrupt) bytes.back() ^= std::byte{1};
    if (action == FaultAction::kDelay || action == FaultAction::kReorder || !queue_.empty()) {
      const Deadline now = Clock::now();
      const bool overtakes = !queue_.empty() && queue_.back().overtakable;
      const Deadline behind = queue_.empty() || overtakes ? now : queue_.back().due;
      Waiting waiting{std::move(bytes), std::max(behind, fault.has_value() ? now + fault->delay : now),
                      action == FaultAction::kReorder};
      if (overtakes) {
        queue_.back().overtakable = false;
        queue_.back().due = waiting.due;
        queue_.insert(queue_.end() - 1, std::move(waiting));
      } else {
        if (action == FaultAction::kDuplicate) queue_.push_back(waiting);
        queue_.push_back(std::move(waiting));
      }
      changed_.notify_all();
      return;
    }
    if (action == FaultAction::kDuplicate) inner_->SendEncoded(bytes);
    inner_->SendEncoded(std::move(bytes));
  }

  void Run() {
    std::unique_lock lock(mutex_);
    while (!closed_) {
      if (queue_.empty()) {
        changed_.wait(lock);
      } else if (Clock::now() < queue_.front().due) {
        changed_.wait_until(lock, queue_.front().due);
      } else {
        // With the lock held: a frame sent now must stand behind this one.
        const std::vector<std::byte> bytes = std::move(queue_.front().bytes);
        queue_.pop_front();
        try {
          inner_->SendEncoded(bytes);
        } catch (const Error&) {
          // Whoever sends or receives next over the inner channel hears of its end.
        }
      }
    }
  }

  const std::unique_ptr<Channel> inner_;
  const FrameFaults faults_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> queue_;
  bool closed_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace

std::unique_ptr<Channel> MakeFaultyChannel(std::unique_ptr<Channel> inner, FrameFaults faults) {
  SLUICE_CHECK(inner != nullptr && faults != nullptr, "faults need a channel and a plan");
  return std::make_unique<FaultyChannel>(std::move(inner), std::move(faults));
}

}  // namespace sluice::comm
