#pragma once

#include <memory>

#include "engine/engine.h"
#include "serve/exchange.h"
#include "serve/generation.h"
#include "serve/grammars.h"
#include "serve/server.h"
#include "text/tokenizer.h"

namespace sluice::serve {

// What every route has at hand. `started` is in Unix seconds.
struct Service {
  const ServerOptions& options;
  const ServerInfo& info;
  engine::Engine& engine;
  const text::Tokenizer& tokenizer;
  GenerationList& generations;
  Grammars& grammars;
  Watchers watchers;
  int64_t started = 0;
};

// The routes. Each answers through the exchange, or throws what ToApiError makes an answer of.
void HandleChat(Service& service, const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
void HandleCompletion(Service& service, const HttpRequest& request,
                      const std::shared_ptr<Exchange>& exchange);
void HandleGenerate(Service& service, const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
// Sends one token through every stage, ahead of waiting requests; 503 when it does not come in time.
void HandleHealthGenerate(Service& service, const HttpRequest& request,
                          const std::shared_ptr<Exchange>& exchange);
// SGLang's profile routes, and a dump of what the ranks still remember. They answer
// {"success", "message", "notes", "files", "events", "lost"}; a note is a sentence on a field of the body that
// means nothing here.
void HandleStartProfile(Service& service, const HttpRequest& request,
                        const std::shared_ptr<Exchange>& exchange);
void HandleStopProfile(Service& service, const HttpRequest& request,
                       const std::shared_ptr<Exchange>& exchange);
void HandleDumpTrace(Service& service, const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
// {"prompt", "token_ids", "count"} of a chat body.
HttpResponse RenderedChat(Service& service, const HttpRequest& request);
HttpResponse Tokenized(Service& service, const HttpRequest& request);
HttpResponse Detokenized(Service& service, const HttpRequest& request);
HttpResponse TokenizerInfo(const Service& service);
HttpResponse FlushCache(Service& service, const HttpRequest& request);
HttpResponse AbortRequest(Service& service, const HttpRequest& request);
HttpResponse VersionAnswer(const Service& service);
HttpResponse LoadAnswer(const Service& service);
HttpResponse OpenApiAnswer(const Service& service);
HttpResponse ModelList(const Service& service);
HttpResponse OneModel(const Service& service, const std::string& id);
HttpResponse Live();
HttpResponse Ready(const Service& service);
HttpResponse StallReportAnswer(const Service& service);
HttpResponse ServerDescription(const Service& service);
HttpResponse ModelDescription(const Service& service);
HttpResponse MetricsText(const Service& service);

// Finds the route of a request and runs it; every exception becomes an error answer.
void Route(Service& service, const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);

}  // namespace sluice::serve
