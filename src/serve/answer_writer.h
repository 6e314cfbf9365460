#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <string>

#include "serve/alarm.h"
#include "serve/byte_stream.h"
#include "serve/server.h"

namespace sluice::serve {

// The bytes of answers on their way to the client of a connection, one answer after the other: whole, or as a
// stream, whose parts are chunks where the protocol has them. Everything runs on the strand of the socket.
class AnswerWriter {
 public:
  // The connection.
  class Owner {
   public:
    virtual ~Owner() = default;
    // Keeps the connection, and so this writer, while it is held.
    virtual std::shared_ptr<void> Hold() = 0;
    // The socket has taken all of the answer.
    virtual void OnAnswerOut() = 0;
    // The client has left, or takes nothing.
    virtual void OnClientGone() = 0;
    // It has left more bytes of a stream unread than it may. They are not written.
    virtual void OnTooMuchUnread(std::size_t bytes) = 0;
  };

  // `unread_bytes`: of all connections of the server. All four outlive the writer.
  AnswerWriter(Owner& owner, ByteStream& socket, const ServerOptions& options,
               std::atomic<std::size_t>& unread_bytes);

  // Head and body.
  void WriteWhole(std::string bytes);
  // `filler` is written after every options.keep_alive without a part, unless it is empty.
  void BeginStream(std::string head, bool chunked, std::string filler);
  void WritePart(std::string bytes);
  void EndStream();
  // The answer is out, and another may come.
  void Reset();
  // The connection is closed: nothing is written or called any more.
  void Abandon();

 private:
  enum class State { kIdle, kOpen, kEnded, kAbandoned };

  void Queue(std::string bytes);
  void WriteNext();
  void OnWritten(const boost::system::error_code& error);
  void AwaitSilence();

  Owner& owner_;
  ByteStream& socket_;
  const ServerOptions& options_;
  std::atomic<std::size_t>& unread_bytes_;
  Alarm late_;
  boost::asio::steady_timer silence_;
  State state_ = State::kIdle;
  bool chunked_ = false;
  std::string filler_;
  std::deque<std::string> queue_;
  std::size_t queued_bytes_ = 0;
  bool writing_ = false;
};

}  // namespace sluice::serve
