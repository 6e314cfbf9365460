#pragma once

// clang-format off
#include <utility>  // first: Boost.Asio 1.74 uses std::exchange without including it
#include <boost/asio.hpp>
// clang-format on

#include <boost/asio/ssl.hpp>
#include <optional>

namespace sluice::serve {

// A connection, with TLS on it or without, as Asio's and Beast's reads and writes take it.
class ByteStream {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  using executor_type = Socket::executor_type;
  using Error = boost::system::error_code;

  // With `tls` the handshake comes first; the context must outlive the stream.
  ByteStream(Socket socket, boost::asio::ssl::context* tls) : socket_(std::move(socket)) {
    if (tls != nullptr) tls_.emplace(socket_, *tls);
  }

  executor_type get_executor() { return socket_.get_executor(); }
  bool secure() const { return tls_.has_value(); }

  template <typename Handler>
  void Handshake(Handler handler) {
    tls_->async_handshake(boost::asio::ssl::stream_base::server, std::move(handler));
  }
  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) return tls_->async_read_some(buffers, std::forward<Handler>(handler));
    socket_.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) return tls_->async_write_some(buffers, std::forward<Handler>(handler));
    socket_.async_write_some(buffers, std::forward<Handler>(handler));
  }

  void cancel() {
    Error ignored;
    socket_.cancel(ignored);
  }
  // The end of what is sent. TLS ends with the connection: lengths and chunks say whether an answer is whole.
  void ShutdownSend() {
    Error ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
  }
  void Close() {
    Error ignored;
    socket_.shutdown(Socket::shutdown_both, ignored);
    socket_.close(ignored);
  }

 private:
  Socket socket_;
  std::optional<boost::asio::ssl::stream<Socket&>> tls_;
};

}  // namespace sluice::serve
