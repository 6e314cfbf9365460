#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sluice::serve {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

// A request as the routes see it.
struct HttpRequest {
  std::string method;            // "HEAD" is shown as "GET"; the transport leaves the body out
  std::string path;              // percent-decoded, without the query
  std::string content_type;      // as sent, empty when absent
  std::string content_encoding;  // as sent, empty when absent
  std::string authorization;     // as sent, empty when absent; so the next two
  std::string origin;
  std::string host;
  std::string request_id;  // the client's x-request-id, or one made here
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HeaderList headers;
  std::string body;
};

// One request and its answer: either Respond once, or BeginStream, any number of Write, EndStream.
// Only Post may be called from any thread; the rest only inside the handler or a posted task. After the
// answer has ended nothing but Post may be called; once the client has left the rest does nothing.
class Exchange {
 public:
  virtual ~Exchange() = default;

  // Runs `task` on a server thread after the tasks posted before it, never two of an exchange at once.
  virtual void Post(std::function<void()> task) = 0;

  // Runs `task` like Post after `delay`, unless the connection has ended by then. At most one waits.
  virtual void PostAfter(std::chrono::milliseconds delay, std::function<void()> task) = 0;

  virtual void Respond(HttpResponse response) = 0;

  // Sends the head; `head.body` is ignored. After every `silence` during which nothing was written the
  // transport writes `filler`, from a wall-clock timer; empty: it stays silent.
  virtual void BeginStream(HttpResponse head, std::string filler) = 0;
  virtual void Write(std::string bytes) = 0;
  virtual void EndStream() = 0;

  // `callback` runs once if the client leaves (or reads too slowly) before the answer has ended.
  virtual void OnGone(std::function<void()> callback) = 0;
};

// Looks at a request's head before its body is read; an answer refuses it.
using HttpGate = std::function<std::optional<HttpResponse>(const HttpRequest&)>;
using HttpHandler = std::function<void(HttpRequest, std::shared_ptr<Exchange>)>;

}  // namespace sluice::serve
