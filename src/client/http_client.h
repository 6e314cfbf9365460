#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "client/sse_reader.h"
#include "client/url.h"

namespace sluice::client {

struct ClientOptions {
  Url server;
  std::string api_key;                                  // sent as `Authorization: Bearer`, if not empty
  Duration connect_timeout = std::chrono::seconds(10);  // of each address, and of the TLS handshake
  Duration silence_timeout = std::chrono::minutes(10);  // the longest time without a byte from the server
  std::string ca_file;             // PEM that the server's certificate is checked by; empty: the system's
  bool verify_certificate = true;  // false: any certificate will do
};

struct HttpAnswer {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // of a stream that was taken as events: empty

  bool ok() const { return status >= 200 && status < 300; }
};

// An event and when the last of its bytes was read from the socket.
struct TimedEvent {
  ServerEvent event;
  Clock::time_point arrival;
};

// One connection to one HTTP/1.1 server, made when it is needed and kept between requests. Calls block; many
// requests at a time are many clients, each with a thread. A request that finds the kept connection closed
// is sent once more on a new one; nothing else is repeated. What hinders an answer (refused, silent, broken
// off, not HTTP) is Error(kNetwork); an answer of any status is an answer.
class HttpClient {
 public:
  explicit HttpClient(ClientOptions options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // `path` begins with a slash and comes behind the server's own prefix.
  HttpAnswer Get(std::string_view path);
  HttpAnswer Post(std::string_view path, std::string_view json);
  // A POST whose answer, when its status is 2xx and its type text/event-stream, is given event by event;
  // false from `on_event` closes the connection and ends the call. Any other answer comes back with its body.
  HttpAnswer PostForEvents(std::string_view path, std::string_view json,
                           const std::function<bool(const TimedEvent&)>& on_event);

  // Ends the call under way, and every later one, with Error(kNetwork). From any thread.
  void Cancel();

  // When the last request's bytes were handed to the socket completely; times to a first token begin at or
  // before the call, by the caller's own definition.
  Clock::time_point sent_at() const;

 private:
  struct Connection;
  std::unique_ptr<Connection> connection_;
};

}  // namespace sluice::client
