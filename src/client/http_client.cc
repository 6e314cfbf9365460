#include "client/http_client.h"

// clang-format off
#include <utility>  // first: Boost.Asio 1.74 uses std::exchange without including it
#include <boost/asio.hpp>
// clang-format on

#include <atomic>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <cctype>
#include <limits>
#include <optional>

#include "base/error.h"

namespace sluice::client {

namespace beast = boost::beast;
namespace http = beast::http;
namespace net = boost::asio;
using boost::system::error_code;
using net::ip::tcp;

namespace {

using Request = http::request<http::string_body>;
using Parser = http::response_parser<http::string_body>;

Request MakeRequest(const ClientOptions& options, http::verb verb, std::string_view path,
                    std::string_view json) {
  Request request(verb, options.server.path + std::string(path), 11);
  request.set(http::field::host, options.server.authority());
  request.set(http::field::user_agent, "sluice");
  request.set(http::field::accept, "application/json, text/event-stream");
  if (!options.api_key.empty()) request.set(http::field::authorization, "Bearer " + options.api_key);
  if (verb == http::verb::post) {
    request.set(http::field::content_type, "application/json");
    request.body() = json;
    request.prepare_payload();
  }
  return request;
}

// The server closed the connection, or had closed it, before a byte of an answer.
bool IsClosedConnection(const error_code& error) {
  return error == http::error::end_of_stream || error == net::error::connection_reset ||
         error == net::error::broken_pipe || error == net::error::eof ||
         error == net::ssl::error::stream_truncated;
}

}  // namespace

// The asynchronous operations of Beast, each run to its end: that is how it bounds a wait.
struct HttpClient::Connection {
  explicit Connection(ClientOptions given) : options(std::move(given)) {
    if (!options.server.tls) return;
    error_code error;
    if (options.ca_file.empty()) {
      tls.set_default_verify_paths(error);
    } else {
      tls.load_verify_file(options.ca_file, error);
      if (error) {
        Fail(ErrorKind::kUsage, "the certificates of {} cannot be used: {}", options.ca_file,
             error.message());
      }
    }
    tls.set_verify_mode(options.verify_certificate ? net::ssl::verify_peer : net::ssl::verify_none);
  }

  beast::tcp_stream& lowest() { return secure ? beast::get_lowest_layer(*secure) : *plain; }
  bool open() const { return plain.has_value() || secure.has_value(); }
  void Close() {
    if (!open()) return;
    error_code ignored;
    lowest().socket().close(ignored);
    secure.reset();
    plain.reset();
    buffer.clear();
  }

  // Starts an operation with a handler that stores its outcome, and waits for that; `limit` bounds the wait.
  template <typename Start>
  error_code Wait(Duration limit, Start start) {
    error_code outcome = net::error::operation_aborted;
    lowest().expires_after(limit);
    start([&outcome](error_code error, auto&&...) { outcome = error; });
    io.restart();
    io.run();
    return outcome;
  }
  template <typename Start>
  error_code WaitOnStream(Start start) {
    return Wait(options.silence_timeout, [&](auto handler) {
      if (secure) {
        start(*secure, handler);
      } else {
        start(*plain, handler);
      }
    });
  }

  [[noreturn]] void Broken(const char* doing, const error_code& error) {
    Close();
    if (cancelled) Fail(ErrorKind::kNetwork, "the request to {} was cancelled", options.server.ToString());
    if (error == beast::error::timeout) {
      Fail(ErrorKind::kNetwork, "{} is silent: no byte within the time it has ({}); --timeout is this limit",
           options.server.ToString(), doing);
    }
    Fail(ErrorKind::kNetwork, "{} does not answer ({}): {}", options.server.ToString(), doing,
         error.message());
  }

  void Connect() {
    const Url& server = options.server;
    error_code error;
    tcp::resolver resolver(io);
    const auto found =
        resolver.resolve(server.host, std::to_string(server.port), tcp::resolver::numeric_service, error);
    if (error) Broken("looking its name up", error);
    if (server.tls) {
      secure.emplace(io, tls);
    } else {
      plain.emplace(io);
    }
    error = Wait(options.connect_timeout,
                 [&](auto handler) { lowest().async_connect(found.begin(), found.end(), handler); });
    if (error) Broken("connecting", error);
    lowest().socket().set_option(tcp::no_delay(true), error);
    if (!secure) return;
    if (!SSL_set_tlsext_host_name(secure->native_handle(), server.host.c_str())) {
      Fail(ErrorKind::kUsage, "{} is no name that TLS could send", server.host);
    }
    if (options.verify_certificate)
      secure->set_verify_callback(net::ssl::host_name_verification(server.host));
    error = Wait(options.connect_timeout,
                 [&](auto handler) { secure->async_handshake(net::ssl::stream_base::client, handler); });
    if (error) Broken("TLS handshake", error);
  }

  // Sends the request and reads the answer's head. False: a connection kept from before was closed already.
  bool Begin(const Request& request, std::optional<Parser>& parser) {
    const bool kept = open();
    if (!kept) Connect();
    parser.emplace();
    // Boost 1.74 takes "no limit" for a limit of nothing.
    parser->body_limit(std::numeric_limits<uint64_t>::max());
    error_code error =
        WaitOnStream([&](auto& stream, auto handler) { http::async_write(stream, request, handler); });
    sent_at = Clock::now();
    const bool sent = !error;
    if (sent) {
      error = WaitOnStream(
          [&](auto& stream, auto handler) { http::async_read_header(stream, buffer, *parser, handler); });
    }
    if (error && kept && !cancelled && IsClosedConnection(error)) return false;
    if (error) Broken(sent ? "waiting for its answer" : "sending the request", error);
    return true;
  }

  // A call that ends by an exception leaves no half-read answer behind.
  HttpAnswer Exchange(http::verb verb, std::string_view path, std::string_view json,
                      const std::function<bool(const TimedEvent&)>* on_event) {
    try {
      return ExchangeOnce(verb, path, json, on_event);
    } catch (...) {
      Close();
      throw;
    }
  }

  HttpAnswer ExchangeOnce(http::verb verb, std::string_view path, std::string_view json,
                          const std::function<bool(const TimedEvent&)>* on_event) {
    if (cancelled) Broken("cancelled", net::error::operation_aborted);
    const Request request = MakeRequest(options, verb, path, json);
    std::optional<Parser> parser;
    if (!Begin(request, parser)) {
      Close();
      Begin(request, parser);
    }
    HttpAnswer answer;
    answer.status = parser->get().result_int();
    for (const auto& field : parser->get()) {
      std::string name(field.name_string());
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      answer.headers[name] = std::string(field.value());
    }
    const bool events =
        on_event != nullptr && answer.ok() && answer.headers["content-type"].starts_with("text/event-stream");
    SseReader reader;
    for (;;) {
      if (events) {
        std::string& body = parser->get().body();
        const Clock::time_point now = Clock::now();
        for (ServerEvent& event : reader.Feed(body)) {
          if ((*on_event)({std::move(event), now})) continue;
          Close();
          return answer;
        }
        body.clear();
      }
      if (parser->is_done()) break;
      const error_code error = WaitOnStream(
          [&](auto& stream, auto handler) { http::async_read_some(stream, buffer, *parser, handler); });
      if (error) Broken("in the middle of an answer", error);
    }
    if (!events) answer.body = std::move(parser->get().body());
    if (!parser->keep_alive()) Close();
    return answer;
  }

  const ClientOptions options;
  net::io_context io;
  net::ssl::context tls{net::ssl::context::tls_client};
  std::optional<beast::tcp_stream> plain;
  std::optional<beast::ssl_stream<beast::tcp_stream>> secure;
  beast::flat_buffer buffer;  // read and not yet parsed
  Clock::time_point sent_at;
  std::atomic<bool> cancelled{false};
};

HttpClient::HttpClient(ClientOptions options)
    : connection_(std::make_unique<Connection>(std::move(options))) {}

HttpClient::~HttpClient() { connection_->Close(); }

HttpAnswer HttpClient::Get(std::string_view path) {
  return connection_->Exchange(http::verb::get, path, {}, nullptr);
}

HttpAnswer HttpClient::Post(std::string_view path, std::string_view json) {
  return connection_->Exchange(http::verb::post, path, json, nullptr);
}

HttpAnswer HttpClient::PostForEvents(std::string_view path, std::string_view json,
                                     const std::function<bool(const TimedEvent&)>& on_event) {
  return connection_->Exchange(http::verb::post, path, json, &on_event);
}

void HttpClient::Cancel() {
  connection_->cancelled = true;
  net::post(connection_->io, [connection = connection_.get()] {
    if (!connection->open()) return;
    error_code ignored;
    connection->lowest().socket().cancel(ignored);
  });
}

Clock::time_point HttpClient::sent_at() const { return connection_->sent_at; }

}  // namespace sluice::client
