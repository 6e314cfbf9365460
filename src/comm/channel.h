#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "comm/frame.h"

namespace sluice::comm {

// One end of a two-way stream of frames between the controller and a rank; frames arrive in order.
// Destroying an end closes it.
class Channel {
 public:
  virtual ~Channel() = default;
  // Thread-safe. Throws Error(kRankLost) when the peer is gone, when this end is closed, and when the peer
  // takes nothing for kSendLimit.
  virtual void Send(const Frame& frame) { SendEncoded(EncodeFrame(frame)); }
  // The same for the bytes of a frame, right or wrong: for whoever disturbs frames on purpose.
  virtual void SendEncoded(std::vector<std::byte> bytes) = 0;
  // The next frame; nothing when none came within `timeout`. One thread receives. Throws Error(kRankLost)
  // when the peer is gone and everything it sent was received, when this end is closed, and when a frame is
  // bad. After a bad frame nothing is received any more, every call throws the same sentence; what this end
  // has to say of it can still be sent before it closes.
  virtual std::optional<Frame> Receive(Duration timeout) = 0;
  // Thread-safe and repeatable. Ends a Receive under way; the peer still receives what was sent before.
  virtual void Close() = 0;

  // Names the other end in this end's sentences ("rank 3", "the controller"). Before other threads use it.
  void SetPeer(std::string peer) { peer_ = std::move(peer); }
  const std::string& peer() const { return peer_; }

  // The longest payload this end receives from now on; a frame that announces more is a bad one. For a peer
  // that has not shown who it is. By the receiving thread, or before there is one.
  virtual void LimitReceived(size_t payload_bytes) { receive_limit_ = payload_bytes; }

 protected:
  // Ends what is received with the sentence of a bad frame.
  [[noreturn]] void Break(std::string sentence);
  // Throws what Break threw, if it did.
  void CheckUnbroken() const;

  std::string peer_ = "the peer";
  size_t receive_limit_ = kMaxFramePayload;

 private:
  std::string broken_;  // of the receiving thread
};

inline constexpr Duration kSendLimit = std::chrono::seconds(10);

// Two connected ends in one process. Frames cross in their encoded form, so a peer in another process and one
// in this see the same bytes. Send never blocks.
std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> MakeChannelPair();

}  // namespace sluice::comm
