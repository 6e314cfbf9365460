#include "comm/socket_channel.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/error.h"

namespace sluice::comm {
namespace {

int PollTimeout(Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000));
}

class SocketChannel final : public Channel {
 public:
  SocketChannel(int socket, std::string peer)
      : socket_(socket), wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    SetPeer(std::move(peer));
    SLUICE_CHECK(wake_ >= 0, "no event descriptor: {}", std::strerror(errno));
    fcntl(socket_, F_SETFL, fcntl(socket_, F_GETFL) | O_NONBLOCK);
    // Frames are small and wanted at once. Fails on Unix sockets, which have no delay to switch off.
    const int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  ~SocketChannel() override {
    SocketChannel::Close();
    close(socket_);
    close(wake_);
  }

  void SendEncoded(std::vector<std::byte> bytes) override {
    std::lock_guard lock(send_mutex_);
    const Deadline deadline = Clock::now() + kSendLimit;
    size_t sent = 0;
    while (sent < bytes.size()) {
      CheckOpen();
      const ssize_t count = send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (count >= 0) {
        sent += static_cast<size_t>(count);
      } else if (errno == EAGAIN) {
        if (!Await(POLLOUT, deadline)) {
          Close();  // part of a frame may be on the wire: nothing can follow it
          Fail(ErrorKind::kRankLost, "{} took {} of the {} bytes of a control frame within {} s", peer_, sent,
               bytes.size(), std::chrono::duration_cast<std::chrono::seconds>(kSendLimit).count());
        }
      } else if (errno != EINTR) {
        Fail(ErrorKind::kRankLost, "the control connection to {} ended while sending: {}", peer_,
             std::strerror(errno));
      }
    }
  }

  std::optional<Frame> Receive(Duration timeout) override {
    const Deadline deadline = Clock::now() + timeout;
    while (true) {
      CheckOpen();
      CheckUnbroken();
      if (ReadMore()) {
        if (auto frame = TakeFrame()) return frame;
      } else if (!Await(POLLIN, deadline)) {
        return std::nullopt;
      }
    }
  }

  void Close() override {
    if (closed_.exchange(true)) return;
    shutdown(socket_, SHUT_RDWR);
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake_, &one, sizeof(one));
  }

 private:
  void CheckOpen() const {
    if (closed_) Fail(ErrorKind::kRankLost, "the control connection to {} was closed at this end", peer_);
  }

  // False when the deadline passed. True when the socket is ready, closed, or in error: the next call tells.
  bool Await(short events, Deadline deadline) {
    pollfd waits[2] = {{socket_, events, 0}, {wake_, POLLIN, 0}};
    const int ready = poll(waits, 2, PollTimeout(deadline));
    return ready > 0 || (ready < 0 && errno == EINTR) || Clock::now() < deadline;
  }

  // Reads up to what the header, then the payload, still lacks; true when something came or the part is
  // whole.
  bool ReadMore() {
    if (filled_ == wanted()) return true;
    const ssize_t count = recv(socket_, target(), wanted() - filled_, 0);
    if (count > 0) {
      filled_ += static_cast<size_t>(count);
      return true;
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return errno == EINTR;
    const char* where = filled_ == 0 && !in_payload_ ? "" : " in the middle of a frame";
    const std::string reason = count == 0 ? "" : fmt::format(": {}", std::strerror(errno));
    CheckOpen();
    Fail(ErrorKind::kRankLost, "{} closed the control connection{}{}", peer_, where, reason);
  }

  // The frame when it is whole. The payload's buffer grows only after its announced length was judged, and in
  // slabs, so that a peer that announces much and sends little costs little.
  std::optional<Frame> TakeFrame() {
    try {
      if (filled_ < wanted()) return std::nullopt;
      if (!in_payload_) {
        fields_ = DecodeFrameHeader(header_, receive_limit_);
        in_payload_ = true;
        filled_ = 0;
      }
      if (filled_ == payload_.size() && filled_ < fields_.payload_bytes) {
        payload_.resize(std::min<size_t>(fields_.payload_bytes, filled_ + kSlab));
      }
      if (filled_ < fields_.payload_bytes) return std::nullopt;
      CheckFrame(header_, payload_);
    } catch (const Error& error) {
      Break(fmt::format("{} broke the control protocol: {}", peer_, error.what()));
    }
    in_payload_ = false;
    filled_ = 0;
    return Frame{fields_.type, fields_.step, fields_.pass, std::exchange(payload_, {}), fields_.number};
  }

  size_t wanted() const { return in_payload_ ? payload_.size() : kFrameHeaderBytes; }
  std::byte* target() { return (in_payload_ ? payload_.data() : header_.data()) + filled_; }

  static constexpr size_t kSlab = size_t{1} << 20;

  const int socket_;
  const int wake_;  // readable once this end is closed
  std::atomic<bool> closed_ = false;
  std::mutex send_mutex_;

  // The frame being received.
  bool in_payload_ = false;
  size_t filled_ = 0;
  std::array<std::byte, kFrameHeaderBytes> header_{};
  FrameHeader fields_;
  std::vector<std::byte> payload_;
};

}  // namespace

std::unique_ptr<Channel> MakeSocketChannel(int socket, std::string peer) {
  return std::make_unique<SocketChannel>(socket, std::move(peer));
}

}  // namespace sluice::comm
