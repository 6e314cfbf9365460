#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/engine.h"
#include "serve/json.h"
#include "serve/request_watch.h"
#include "serve/sampling_defaults.h"
#include "text/tokenizer.h"

namespace sluice::serve {

// How the server listens and what it allows. Times are wall-clock.
struct ServerOptions {
  std::string host = "127.0.0.1";  // a numeric address or a name; the first address it has is bound
  uint16_t port = 0;               // 0: any free port, see Server::port()
  int threads = 2;
  std::size_t max_body_bytes = 16U << 20U;  // a million token ids, written out, are about 8 MB
  std::size_t max_header_bytes = 32U << 10U;
  std::size_t max_connections = 1024;
  int64_t max_prompts = 1024;                // under way at once; more are refused, not queued
  std::size_t max_unread_bytes = 8U << 20U;  // of a stream whose client reads too slowly; then it is closed
  std::chrono::milliseconds header_timeout{10'000};
  std::chrono::milliseconds body_timeout{60'000};
  std::chrono::milliseconds idle_timeout{75'000};  // between two requests of one connection
  std::chrono::milliseconds write_timeout{60'000};
  std::chrono::milliseconds keep_alive{4'000};  // silence of a stream before a comment line is written
  std::chrono::milliseconds stop_grace{3'000};  // for answers to be written out when the server stops
};

// Who the server says it is.
struct ServerInfo {
  std::string served_model_name;
  std::string model_path;          // also accepted as `model`
  std::string system_fingerprint;  // equal exactly when equal requests give equal bits
  std::string version;
  SamplingDefaults sampling_defaults{};
  Json arguments =
      Json::object();  // every argument of the program with its value, as /get_server_info shows it
};

// The OpenAI-compatible HTTP server. docs/api.md has the routes, fields, limits and errors.
class Server {
 public:
  // `engine`, `tokenizer` and the metrics of `watchers` must outlive the server. Without metrics there is no
  // GET /metrics.
  Server(ServerOptions options, engine::Engine& engine, const text::Tokenizer& tokenizer, ServerInfo info,
         const Watchers& watchers = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Binds and starts to answer. Error(kNetwork) naming the address, the port and a remedy when the address
  // cannot be bound. Once.
  void Start();
  // The port it listens on; after Start.
  uint16_t port() const;
  // Start if that has not happened, then return when Stop has ended the server.
  void Run();
  // Takes no more requests, ends those under way with a well-formed error, and returns when their answers
  // are written or stop_grace has passed. Any thread but the server's own; more than once.
  void Stop();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace sluice::serve
