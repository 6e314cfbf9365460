#pragma once

#include <cstdint>
#include <memory>

#include "serve/exchange.h"
#include "serve/server.h"

namespace sluice::serve {

struct HttpCore;

// What a server's owner does for its connections. `gate` sees a request's head before its body is read;
// `handle` runs on a server thread, in the exchange's order; pages of an origin that `allows_origin` may read
// answers.
struct HttpHooks {
  HttpHandler handle;
  HttpGate gate = [](const HttpRequest&) { return std::nullopt; };
  std::function<bool(const std::string&)> allows_origin = [](const std::string&) { return false; };
};

// HTTP/1.1 over TCP or TLS: connections, limits, deadlines, chunked streams. Knows nothing of the routes.
class HttpServer {
 public:
  HttpServer(const ServerOptions& options, HttpHooks hooks);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Binds, listens and starts the threads. Error(kNetwork) when the address cannot be bound, Error(kUsage)
  // for a certificate or key that cannot be used.
  void Start();
  uint16_t port() const;
  // Whether only this host can reach it.
  bool loopback() const;
  // Closes the listening socket and idle connections, waits up to stop_grace for answers under way, closes
  // the rest and ends the threads.
  void Stop();

 private:
  std::shared_ptr<HttpCore> core_;
};

}  // namespace sluice::serve
