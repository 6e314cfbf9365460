#include "serve/http_server.h"

#include <fcntl.h>

#include "base/error.h"
#include "base/log.h"
#include "serve/http_session.h"

namespace sluice::serve {

namespace net = boost::asio;
using boost::system::error_code;
using net::ip::tcp;

namespace {

// Only TLS 1.2 and later.
net::ssl::context MakeTls(const ServerOptions& options) {
  net::ssl::context tls(net::ssl::context::tls_server);
  error_code error;
  tls.set_options(net::ssl::context::default_workarounds | net::ssl::context::no_tlsv1 |
                      net::ssl::context::no_tlsv1_1 | net::ssl::context::no_sslv3,
                  error);
  const auto check = [&error](const char* flag, const std::string& file) {
    if (error) {
      Fail(ErrorKind::kUsage, "{} {} cannot be used: {}; give a readable PEM file without a passphrase", flag,
           file, error.message());
    }
  };
  tls.use_certificate_chain_file(options.ssl_certfile, error);
  check("--ssl-certfile", options.ssl_certfile);
  tls.use_private_key_file(options.ssl_keyfile, net::ssl::context::pem, error);
  check("--ssl-keyfile", options.ssl_keyfile);
  return tls;
}

// Rank processes are started while the server listens already: they must not hold its sockets.
template <typename Socket>
void CloseOnExec(Socket& socket) {
  ::fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC);
}

}  // namespace

void HttpCore::Accept() {
  acceptor.async_accept(
      net::make_strand(io), [self = shared_from_this()](error_code error, tcp::socket socket) {
        if (self->stopping || error == net::error::operation_aborted) return;
        if (error) {  // out of file descriptors, most likely: connections that end will give some back
          spdlog::warn("cannot accept a connection: {}; trying again", error.message());
          self->pause.expires_after(std::chrono::milliseconds(100));
          return self->pause.async_wait([self](error_code) { self->Accept(); });
        }
        error_code ignored;
        socket.set_option(tcp::no_delay(true), ignored);
        CloseOnExec(socket);
        const auto session = MakeHttpSession(self, std::move(socket));
        bool full = false;
        {
          const std::lock_guard lock(self->mutex);
          full = self->sessions.size() >= self->options.max_connections;
          self->sessions.insert(session.get());
        }
        session->Begin(full);
        self->Accept();
      });
}

void HttpCore::Shut(bool at_once) {
  std::vector<std::shared_ptr<HttpSession>> all;
  {
    const std::lock_guard lock(mutex);
    for (HttpSession* session : sessions) {
      if (auto alive = session->weak_from_this().lock()) all.push_back(alive);
    }
  }
  for (const auto& session : all) session->Shut(at_once);
}

void HttpCore::Remove(HttpSession* session) {
  const std::lock_guard lock(mutex);
  sessions.erase(session);
  empty.notify_all();
}

HttpServer::HttpServer(const ServerOptions& options, HttpHooks hooks)
    : core_(std::make_shared<HttpCore>(options, std::move(hooks))) {}

HttpServer::~HttpServer() { Stop(); }

void HttpServer::Start() {
  const ServerOptions& options = core_->options;
  if (!options.ssl_certfile.empty()) core_->tls.emplace(MakeTls(options));
  error_code error;
  tcp::resolver resolver(core_->io);
  const auto found = resolver.resolve(options.host, std::to_string(options.port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (!error && found.empty()) error = net::error::host_not_found;
  if (!error) {
    const tcp::endpoint address = found.begin()->endpoint();
    core_->acceptor.open(address.protocol(), error);
    if (!error) core_->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) core_->acceptor.bind(address, error);
    if (!error) core_->acceptor.listen(net::socket_base::max_listen_connections, error);
  }
  if (error) {
    Fail(ErrorKind::kNetwork,
         "cannot listen on {} port {}: {}; choose another --host or --port (--port 0 takes any free one), or "
         "stop "
         "the program that has it",
         options.host, options.port, error.message());
  }
  CloseOnExec(core_->acceptor);
  core_->port = core_->acceptor.local_endpoint().port();
  core_->loopback = core_->acceptor.local_endpoint().address().is_loopback();
  core_->work.emplace(core_->io.get_executor());
  net::post(core_->acceptor.get_executor(), [core = core_] { core->Accept(); });
  for (int i = 0; i < std::max(1, options.threads); ++i) {
    core_->threads.emplace_back([core = core_.get()] {
      for (;;) {
        try {
          core->io.run();
          return;
        } catch (const std::exception& exception) {  // our bug; the other connections go on
          spdlog::critical("a server task failed: {}", exception.what());
        }
      }
    });
  }
}

uint16_t HttpServer::port() const { return core_->port; }

bool HttpServer::loopback() const { return core_->loopback; }

void HttpServer::Stop() {
  if (core_->threads.empty()) return;
  core_->stopping = true;
  net::post(core_->acceptor.get_executor(), [core = core_] {
    error_code ignored;
    core->acceptor.close(ignored);
    core->pause.cancel();
  });
  core_->Shut(false);
  {
    std::unique_lock lock(core_->mutex);
    core_->empty.wait_for(lock, core_->options.stop_grace, [this] { return core_->sessions.empty(); });
  }
  core_->Shut(true);
  core_->work.reset();
  for (std::thread& thread : core_->threads) thread.join();
  core_->threads.clear();
}

}  // namespace sluice::serve
