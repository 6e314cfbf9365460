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
  // when the peer is gone and everything it sent was received, when a frame is bad (the channel is closed
  // then), and when this end is closed.
  virtual std::optional<Frame> Receive(Duration timeout) = 0;
  // Thread-safe and repeatable. Ends a Receive under way; the peer still receives what was sent before.
  virtual void Close() = 0;

  // Names the other end in this end's sentences ("rank 3", "the controller"). Before other threads use it.
  void SetPeer(std::string peer) { peer_ = std::move(peer); }
  const std::string& peer() const { return peer_; }

 protected:
  std::string peer_ = "the peer";
};

inline constexpr Duration kSendLimit = std::chrono::seconds(10);

// Two connected ends in one process. Frames cross in their encoded form, so a peer in another process and one
// in this see the same bytes. Send never blocks.
std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> MakeChannelPair();

}  // namespace sluice::comm
