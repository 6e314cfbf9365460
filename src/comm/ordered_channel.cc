#include "comm/ordered_channel.h"

#include <fmt/format.h>

#include <mutex>
#include <utility>

namespace sluice::comm {
namespace {

class OrderedChannel final : public Channel {
 public:
  explicit OrderedChannel(std::unique_ptr<Channel> inner) : inner_(std::move(inner)) {
    SetPeer(inner_->peer());
  }
  ~OrderedChannel() override { OrderedChannel::Close(); }

  void Send(const Frame& frame) override {
    Frame counted = frame;
    std::lock_guard lock(mutex_);  // the order of numbers is the order on the wire
    counted.number = ++sent_;
    inner_->Send(counted);
  }

  // As they are: whoever writes frames himself counts them himself.
  void SendEncoded(std::vector<std::byte> bytes) override {
    std::lock_guard lock(mutex_);
    inner_->SendEncoded(std::move(bytes));
  }

  std::optional<Frame> Receive(Duration timeout) override {
    CheckUnbroken();
    auto frame = inner_->Receive(timeout);
    if (!frame.has_value()) return std::nullopt;
    if (frame->number != received_ + 1) Break(Complaint(*frame));
    ++received_;
    frame->number = 0;
    return frame;
  }

  void Close() override { inner_->Close(); }
  void LimitReceived(size_t payload_bytes) override { inner_->LimitReceived(payload_bytes); }

 private:
  std::string Complaint(const Frame& frame) const {
    if (frame.number == 0) {
      return fmt::format("{} sent a control frame of type {} that nobody has counted", peer_, frame.type);
    }
    if (frame.number <= received_) {
      return fmt::format("control frame {} of {}, of type {}, came again after frame {}", frame.number, peer_,
                         frame.type, received_);
    }
    return fmt::format(
        "control frame {} of {}, of type {}, came after frame {}; what lies between was lost or overtaken",
        frame.number, peer_, frame.type, received_);
  }

  const std::unique_ptr<Channel> inner_;
  std::mutex mutex_;
  uint64_t sent_ = 0;      // under mutex_
  uint64_t received_ = 0;  // of the receiving thread
};

}  // namespace

std::unique_ptr<Channel> MakeOrderedChannel(std::unique_ptr<Channel> inner) {
  return std::make_unique<OrderedChannel>(std::move(inner));
}

}  // namespace sluice::comm
