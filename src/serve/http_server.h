#pragma once

#include <cstdint>
#include <memory>

#include "serve/exchange.h"
#include "serve/server.h"

namespace sluice::serve {

struct HttpCore;

// HTTP/1.1 over TCP: connections, limits, deadlines, chunked streams. Knows nothing of the routes.
class HttpServer {
 public:
  // `handler` runs on a server thread, in the exchange's order.
  HttpServer(const ServerOptions& options, HttpHandler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Binds, listens and starts the threads. Error(kNetwork) when the address cannot be bound.
  void Start();
  uint16_t port() const;
  // Closes the listening socket and idle connections, waits up to stop_grace for answers under way, closes
  // the rest and ends the threads.
  void Stop();

 private:
  std::shared_ptr<HttpCore> core_;
};

}  // namespace sluice::serve
