#include "serve/server.h"

#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"
#include "serve/http_server.h"
#include "serve/service.h"

namespace sluice::serve {
namespace {
constexpr std::chrono::milliseconds kVerdictPeriod{250};
}

struct Server::Parts {
  Parts(ServerOptions server_options, engine::Engine& engine, const text::Tokenizer& tokenizer,
        ServerInfo server_info, const Watchers& watchers)
      : options(std::move(server_options)),
        info(std::move(server_info)),
        service{options, info, engine, tokenizer, generations, watchers, std::time(nullptr)},
        http(options, [this](const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
          Route(service, request, exchange);
        }) {}

  // The engine tells each request that it has ended. Should it not come to that, its verdict still ends them
  // all: no client is left waiting for a job that is over.
  void WatchVerdict() {
    std::unique_lock lock(mutex);
    while (!changed.wait_for(lock, kVerdictPeriod, [this] { return stopping; })) {
      const std::string verdict = service.engine.Verdict();
      if (verdict.empty()) continue;
      lock.unlock();
      generations.Close(ApiError(Refusal::kRankLost, verdict));
      return;
    }
  }

  const ServerOptions options;
  const ServerInfo info;
  GenerationList generations;
  Service service;
  HttpServer http;
  std::thread watch;
  std::mutex mutex;
  std::condition_variable changed;
  bool started = false;
  bool stopping = false;
  bool stopped = false;
};

Server::Server(ServerOptions options, engine::Engine& engine, const text::Tokenizer& tokenizer,
               ServerInfo info, const Watchers& watchers)
    : parts_(std::make_unique<Parts>(std::move(options), engine, tokenizer, std::move(info), watchers)) {}

Server::~Server() { Stop(); }

void Server::Start() {
  const std::lock_guard lock(parts_->mutex);
  SLUICE_CHECK(!parts_->started && !parts_->stopping, "a server starts once");
  parts_->http.Start();
  parts_->started = true;
  parts_->watch = std::thread([parts = parts_.get()] { parts->WatchVerdict(); });
}

uint16_t Server::port() const { return parts_->http.port(); }

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
  parts_->http.Stop();
  {
    const std::lock_guard lock(parts_->mutex);
    parts_->stopped = true;
  }
  parts_->changed.notify_all();
}

}  // namespace sluice::serve
