#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "serve/byte_stream.h"
#include "serve/exchange.h"
#include "serve/http_server.h"
#include "serve/server.h"

namespace sluice::serve {

// One connection, and the exchange of the request it is busy with.
class HttpSession : public Exchange, public std::enable_shared_from_this<HttpSession> {
 public:
  // Starts to read, or, when there are too many connections, refuses and closes. Any thread.
  virtual void Begin(bool refuse) = 0;
  // Ends the connection: at once when no answer is under way or `at_once`, otherwise after the answer. Any
  // thread.
  virtual void Shut(bool at_once) = 0;
};

// What the connections of a server share. Lives until the last of them is gone.
struct HttpCore : std::enable_shared_from_this<HttpCore> {
  HttpCore(const ServerOptions& server_options, HttpHooks server_hooks)
      : options(server_options),
        hooks(std::move(server_hooks)),
        acceptor(boost::asio::make_strand(io)),
        pause(acceptor.get_executor()) {}

  void Accept();
  void Shut(bool at_once);
  void Remove(HttpSession* session);

  const ServerOptions options;
  const HttpHooks hooks;
  std::optional<boost::asio::ssl::context> tls;  // none: plain HTTP
  boost::asio::io_context io;
  boost::asio::ip::tcp::acceptor acceptor;
  boost::asio::steady_timer pause;
  std::optional<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>> work;
  std::vector<std::thread> threads;
  uint16_t port = 0;
  bool loopback = false;
  std::mutex mutex;
  std::condition_variable empty;
  std::set<HttpSession*> sessions;  // each removes itself when it is destroyed
  std::atomic<std::size_t> unread_bytes{
      0};  // of all answers: queued and not yet taken by the clients' sockets
  std::atomic<bool> stopping{false};
};

// A connection that removes itself from `core` when it is destroyed. `socket` has a strand of its own.
std::shared_ptr<HttpSession> MakeHttpSession(std::shared_ptr<HttpCore> core,
                                             boost::asio::ip::tcp::socket socket);

}  // namespace sluice::serve
