#include "serve/server.h"

#include <atomic>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"
#include "serve/access.h"
#include "serve/http_server.h"
#include "serve/service.h"

namespace sluice::serve {
namespace {

constexpr std::chrono::milliseconds kVerdictPeriod{250};

// The admin listener takes few connections and is reached from this host alone.
ServerOptions AdminOptions(const ServerOptions& options) {
  ServerOptions admin = options;
  admin.host = "127.0.0.1";
  admin.port = options.admin_port.value_or(0);
  admin.threads = 1;
  admin.max_connections = 64;
  return admin;
}

// A browser asks this before it sends what another site's page wants sent.
HttpResponse Preflight() {
  HttpResponse response;
  response.headers = {{"Access-Control-Allow-Methods", "GET, POST"},
                      {"Access-Control-Allow-Headers", "authorization, content-type, x-request-id"},
                      {"Access-Control-Max-Age", "600"}};
  response.body = "{}";
  return response;
}

}  // namespace

struct Server::Parts {
  explicit Parts(ServerOptions server_options)
      : options(std::move(server_options)), access(options), http(options, Hooks(false)) {
    if (options.admin_port) admin.emplace(AdminOptions(options), Hooks(true));
  }

  HttpHooks Hooks(bool by_admin) {
    HttpHooks hooks;
    hooks.gate = [this, by_admin](const HttpRequest& request) -> std::optional<HttpResponse> {
      const auto refusal = access.Refuse(request, by_admin, http.loopback());
      if (!refusal) return std::nullopt;
      return refusal->Response();
    };
    hooks.allows_origin = [this](const std::string& origin) { return access.AllowsOrigin(origin); };
    hooks.handle = [this](const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
      Handle(request, exchange);
    };
    return hooks;
  }

  void Handle(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
    if (request.method == "OPTIONS" && access.AllowsOrigin(request.origin)) {
      return exchange->Respond(Preflight());
    }
    Service* ready = live.load(std::memory_order_acquire);
    if (ready != nullptr) return Route(*ready, request, exchange);
    if (request.path == "/live" && request.method == "GET") return exchange->Respond(Live());
    exchange->Respond(
        ApiError(Refusal::kLoading, "the model is being loaded; send the request again later").Response());
  }

  // The engine tells each request that it has ended. Should it not come to that, its verdict still ends them
  // all: no client is left waiting for a job that is over.
  void WatchVerdict() {
    std::unique_lock lock(mutex);
    while (!changed.wait_for(lock, kVerdictPeriod, [this] { return stopping; })) {
      const std::string verdict = service->engine.Verdict();
      if (verdict.empty()) continue;
      lock.unlock();
      generations.Close(ApiError(Refusal::kRankLost, verdict));
      return;
    }
  }

  const ServerOptions options;
  const Access access;
  ServerInfo info;
  GenerationList generations;
  std::optional<Grammars> grammars;
  std::optional<Service> service;
  std::atomic<Service*> live{nullptr};
  HttpServer http;
  std::optional<HttpServer> admin;
  std::thread watch;
  std::mutex mutex;
  std::condition_variable changed;
  bool started = false;
  bool stopping = false;
  bool stopped = false;
};

Server::Server(ServerOptions options) : parts_(std::make_unique<Parts>(std::move(options))) {}

Server::Server(ServerOptions options, engine::Engine& engine, const text::Tokenizer& tokenizer,
               ServerInfo info, const Watchers& watchers)
    : Server(std::move(options)) {
  Serve(engine, tokenizer, std::move(info), watchers);
}

Server::~Server() { Stop(); }

void Server::Start() {
  const std::lock_guard lock(parts_->mutex);
  SLUICE_CHECK(!parts_->started && !parts_->stopping, "a server starts once");
  parts_->http.Start();
  if (parts_->admin) parts_->admin->Start();
  parts_->started = true;
}

void Server::Serve(engine::Engine& engine, const text::Tokenizer& tokenizer, ServerInfo info,
                   const Watchers& watchers) {
  const std::lock_guard lock(parts_->mutex);
  SLUICE_CHECK(!parts_->service.has_value() && !parts_->stopping, "a server is given its engine once");
  parts_->info = std::move(info);
  parts_->grammars.emplace(tokenizer, engine.info().vocab_size);
  parts_->service.emplace(Service{parts_->options, parts_->info, engine, tokenizer, parts_->generations,
                                  *parts_->grammars, watchers, std::time(nullptr)});
  parts_->watch = std::thread([parts = parts_.get()] { parts->WatchVerdict(); });
  parts_->live.store(&*parts_->service, std::memory_order_release);
}

uint16_t Server::port() const { return parts_->http.port(); }

uint16_t Server::admin_port() const { return parts_->admin ? parts_->admin->port() : 0; }

void Server::Run() {
  bool fresh = false;
  {
    const std::lock_guard lock(parts_->mutex);
    fresh = !parts_->started && !parts_->stopping;
  }
  if (fresh) Start();
  std::unique_lock lock(parts_->mutex);
  parts_->changed.wait(lock, [this] { return parts_->stopped; });
}

void Server::Drain() {
  parts_->generations.Refuse(ApiError(
      Refusal::kDraining, "the server is about to stop and takes no more requests; send it to another one"));
}

bool Server::idle() const { return parts_->generations.empty(); }

void Server::Stop() {
  {
    std::unique_lock lock(parts_->mutex);
    if (parts_->stopping) {
      parts_->changed.wait(lock, [this] { return parts_->stopped; });
      return;
    }
    parts_->stopping = true;
  }
  parts_->changed.notify_all();
  if (parts_->watch.joinable()) parts_->watch.join();
  parts_->generations.Close(
      ApiError(Refusal::kDraining, "the server is shutting down; send the request again later"));
  if (parts_->grammars) parts_->grammars->Stop();
  parts_->http.Stop();
  if (parts_->admin) parts_->admin->Stop();
  {
    const std::lock_guard lock(parts_->mutex);
    parts_->stopped = true;
  }
  parts_->changed.notify_all();
}

}  // namespace sluice::serve
