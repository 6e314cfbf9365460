#include "comm/channel.h"

#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "base/error.h"

namespace sluice::comm {
namespace {

// A frame in its encoded form; the payload's bytes are those of the sender's frame, not a copy.
struct Sent {
  std::array<std::byte, kFrameHeaderBytes> header{};
  Payload payload;
  std::vector<std::byte> encoded;  // if any, instead of both: bytes to be passed on as they are
};

// One direction.
class Queue {
 public:
  void Push(Sent sent, const std::string& peer) {
    {
      std::lock_guard lock(mutex_);
      if (closed_)
        Fail(ErrorKind::kRankLost, "the control channel to {} is closed; nothing can be sent", peer);
      frames_.push_back(std::move(sent));
    }
    changed_.notify_one();  // one thread receives; not under the lock, or it would wake only to wait again
  }

  // Nothing when none came.
  std::optional<Sent> Pop(Duration timeout, const std::string& peer) {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, Clock::now() + timeout, [&] { return closed_ || !frames_.empty(); });
    if (frames_.empty()) {
      if (closed_) Fail(ErrorKind::kRankLost, "the control channel to {} was closed", peer);
      return std::nullopt;
    }
    Sent sent = std::move(frames_.front());
    frames_.pop_front();
    return sent;
  }

  void Close(bool drop) {
    std::lock_guard lock(mutex_);
    closed_ = true;
    if (drop) frames_.clear();
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Sent> frames_;
  bool closed_ = false;
};

class QueueChannel final : public Channel {
 public:
  QueueChannel(std::shared_ptr<Queue> out, std::shared_ptr<Queue> in)
      : out_(std::move(out)), in_(std::move(in)) {}
  ~QueueChannel() override { QueueChannel::Close(); }

  void Send(const Frame& frame) override { out_->Push({EncodeFrameHeader(frame), frame.payload, {}}, peer_); }
  void SendEncoded(std::vector<std::byte> bytes) override { out_->Push({{}, {}, std::move(bytes)}, peer_); }
  std::optional<Frame> Receive(Duration timeout) override {
    CheckUnbroken();
    auto sent = in_->Pop(timeout, peer_);
    if (!sent.has_value()) return std::nullopt;
    try {
      if (!sent->encoded.empty()) return DecodeFrame(sent->encoded, receive_limit_);
      const FrameHeader fields = DecodeFrameHeader(sent->header, receive_limit_);
      CheckFrame(sent->header, sent->payload.bytes());
      return Frame{fields.type, fields.step, fields.pass, std::move(sent->payload), fields.number};
    } catch (const Error& error) {
      Break(fmt::format("{} broke the control protocol: {}", peer_, error.what()));
    }
  }
  void Close() override {
    out_->Close(/*drop=*/false);
    in_->Close(/*drop=*/true);
  }

 private:
  const std::shared_ptr<Queue> out_;
  const std::shared_ptr<Queue> in_;
};

}  // namespace

void Channel::Break(std::string sentence) {
  broken_ = std::move(sentence);
  throw Error(ErrorKind::kRankLost, broken_);
}

void Channel::CheckUnbroken() const {
  if (!broken_.empty()) throw Error(ErrorKind::kRankLost, broken_);
}

std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> MakeChannelPair() {
  auto there = std::make_shared<Queue>();
  auto back = std::make_shared<Queue>();
  return {std::make_unique<QueueChannel>(there, back), std::make_unique<QueueChannel>(back, there)};
}

}  // namespace sluice::comm
