#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "serve/chat_dialect.h"
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
  int64_t max_prompt_logprobs = 65536;       // prompt tokens of one answer whose log-probabilities are given
  std::size_t max_unread_bytes = 8U << 20U;  // of a stream whose client reads too slowly; then it is closed
  std::size_t max_unread_total_bytes = 256U << 20U;  // of all answers; above it streams may have 64 KiB
  ChatDialect chat{};
  bool parse_tool_calls = true;  // else requests with tools are refused
  bool web_page = true;          // at /, for people
  bool parse_reasoning = true;   // else an answer with thinking is content as it was written
  std::chrono::milliseconds header_timeout{10'000};
  std::chrono::milliseconds body_timeout{60'000};
  std::chrono::milliseconds idle_timeout{75'000};  // between two requests of one connection
  std::chrono::milliseconds write_timeout{60'000};
  std::chrono::milliseconds keep_alive{4'000};       // silence of a stream before a comment line is written
  std::chrono::milliseconds health_timeout{20'000};  // for a token of /health_generate
  std::chrono::milliseconds stop_grace{3'000};       // for answers to be written out when the server stops
  std::vector<std::string> api_keys;                 // of users; none: no key is wanted
  std::string admin_api_key;                         // for control routes; empty: none
  std::optional<uint16_t> admin_port;  // of a second listener on 127.0.0.1, with control routes; 0: any free
  std::vector<std::string> cors_allow_origins;  // "*": every one
  std::string ssl_certfile;                     // PEM, with ssl_keyfile; empty: plain HTTP
  std::string ssl_keyfile;
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
//
//   Start -> 503 loading -> Serve -> answers -> Drain -> 503 draining, what runs goes on -> Stop
class Server {
 public:
  explicit Server(ServerOptions options);
  // With an engine from the start. `engine`, `tokenizer` and the metrics of `watchers` must outlive the
  // server. Without metrics there is no GET /metrics.
  Server(ServerOptions options, engine::Engine& engine, const text::Tokenizer& tokenizer, ServerInfo info,
         const Watchers& watchers = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Binds and starts to answer. Error(kNetwork) naming the address, the port and a remedy when the address
  // cannot be bound. Once.
  void Start();
  // What it answers from now on; until then every route but /live says 503 loading. Once; what is given must
  // outlive the server.
  void Serve(engine::Engine& engine, const text::Tokenizer& tokenizer, ServerInfo info,
             const Watchers& watchers = {});
  // The port it listens on, and that of the admin listener if there is one; after Start.
  uint16_t port() const;
  uint16_t admin_port() const;
  // Start if that has not happened, then return when Stop has ended the server.
  void Run();
  // Takes no more requests (503 draining, of /ready too); those under way go on. Any thread.
  void Drain();
  // Whether no request is under way.
  bool idle() const;
  // Takes no more requests, ends those under way with a well-formed error, and returns when their answers
  // are written or stop_grace has passed. Any thread but the server's own; more than once.
  void Stop();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace sluice::serve
