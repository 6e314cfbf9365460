#include <fmt/format.h>

#include "serve/errors.h"
#include "serve/field_reader.h"
#include "serve/ids.h"
#include "serve/json_response.h"
#include "serve/prepare.h"
#include "serve/service.h"

namespace sluice::serve {
namespace {

// One probe on its way. Whichever comes first answers: a token, the end of the engine, or the time.
struct Probe {
  bool answered = false;
  engine::RequestId id = 0;
};

}  // namespace

HttpResponse FlushCache(Service& service, const HttpRequest&) {
  if (!service.engine.FlushCache()) {
    const engine::EngineLoad load = service.engine.Load();
    throw ApiError(
        Refusal::kCacheInUse,
        fmt::format("the cache is in use: {} requests run and {} wait; flush it when they have ended",
                    load.running, load.waiting));
  }
  return JsonResponse({{"success", true}, {"message", "every cached prefix is forgotten"}});
}

HttpResponse AbortRequest(Service& service, const HttpRequest& http) {
  const JsonBody body = ReadBody(http);
  FieldReader fields(body.object());
  const bool all = fields.Bool("abort_all").value_or(false);
  const auto rid = fields.String("rid");
  if (!all && !rid)
    fields.Missing("rid", "the rid, x-request-id or answer id of a request, or abort_all: true");
  if (all && rid && !rid->empty()) {
    throw ApiError(Refusal::kInvalidValue,
                   "rid names one request and abort_all means every one; send one of them", "rid");
  }
  const std::size_t ended = service.generations.Abort(
      all ? std::nullopt : rid, ApiError(Refusal::kAborted, "the request was ended by /abort_request"));
  return JsonResponse({{"success", true}, {"aborted", ended}});
}

void HandleHealthGenerate(Service& service, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  CheckRunning(service);
  const auto probe = std::make_shared<Probe>();
  engine::Request request;
  request.prompt = {
      service.engine.info().eos_token_ids.empty() ? 0 : service.engine.info().eos_token_ids.front()};
  request.max_tokens = 1;
  request.temperature = 0;
  request.probe = true;
  // A salt of its own: a hit in the cache would leave out what is to be shown.
  request.cache_salt = "health:" + RandomHex();
  exchange->OnGone([&engine = service.engine, probe] {
    probe->answered = true;
    engine.Abort(probe->id);
  });
  probe->id = service.engine.Submit(request, [weak = std::weak_ptr(exchange), probe](engine::Event event) {
    if (event.tokens.empty() && !event.finish) return;
    const auto alive = weak.lock();
    if (!alive) return;
    alive->Post([weak, probe, failed = event.finish == engine::FinishReason::kError, error = event.error] {
      const auto open = weak.lock();
      if (!open || std::exchange(probe->answered, true)) return;
      open->Respond(failed ? ApiError(Refusal::kNoToken, "no token could be generated: " + error).Response()
                           : JsonResponse({{"status", "ok"}}));
    });
  });
  const auto limit = service.options.health_timeout;
  exchange->PostAfter(limit, [&service, weak = std::weak_ptr(exchange), probe, limit] {
    const auto open = weak.lock();
    if (!open || std::exchange(probe->answered, true)) return;
    service.engine.Abort(probe->id);
    const std::string stall = service.engine.Stall();
    open->Respond(ApiError(Refusal::kNoToken, fmt::format("no token came out of the last stage in {} s{}{}",
                                                          std::chrono::duration<double>(limit).count(),
                                                          stall.empty() ? "" : ": ", stall))
                      .Response());
  });
}

}  // namespace sluice::serve
