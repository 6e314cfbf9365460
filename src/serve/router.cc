#include <fmt/format.h>

#include <array>
#include <string_view>

#include "serve/errors.h"
#include "serve/service.h"

namespace sluice::serve {
namespace {

using Run = void (*)(Service&, const HttpRequest&, const std::shared_ptr<Exchange>&);

constexpr std::string_view kModelPrefix = "/v1/models/";

struct RouteRow {
  std::string_view path;
  std::string_view method;
  std::string_view allow;
  Run run;
};

void AnswerReady(Service& service, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  exchange->Respond(Ready(service));
}

constexpr std::array kRoutes{
    RouteRow{"/v1/chat/completions", "POST", "POST", HandleChat},
    RouteRow{"/v1/completions", "POST", "POST", HandleCompletion},
    RouteRow{"/v1/models", "GET", "GET, HEAD",
             [](Service& service, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
               exchange->Respond(ModelList(service));
             }},
    RouteRow{kModelPrefix, "GET", "GET, HEAD",
             [](Service& service, const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
               exchange->Respond(OneModel(service, request.path.substr(kModelPrefix.size())));
             }},
    RouteRow{"/live", "GET", "GET, HEAD",
             [](Service&, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
               exchange->Respond(Live());
             }},
    RouteRow{"/ready", "GET", "GET, HEAD", AnswerReady},
    RouteRow{"/health", "GET", "GET, HEAD", AnswerReady},
    RouteRow{"/stall_report", "GET", "GET, HEAD",
             [](Service& service, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
               exchange->Respond(StallReportAnswer(service));
             }},
    RouteRow{"/get_server_info", "GET", "GET, HEAD",
             [](Service& service, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
               exchange->Respond(ServerDescription(service));
             }},
    RouteRow{"/get_model_info", "GET", "GET, HEAD",
             [](Service& service, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
               exchange->Respond(ModelDescription(service));
             }},
    RouteRow{"/metrics", "GET", "GET, HEAD",
             [](Service& service, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
               exchange->Respond(MetricsText(service));
             }},
};

bool Matches(const RouteRow& row, std::string_view path) {
  if (row.path == kModelPrefix)
    return path.size() > row.path.size() && path.substr(0, row.path.size()) == row.path;
  return path == row.path;
}

}  // namespace

void Route(Service& service, const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
  try {
    for (const RouteRow& row : kRoutes) {
      if (!Matches(row, request.path)) continue;
      if (request.method == row.method) return row.run(service, request, exchange);
      HttpResponse response = ApiError(Refusal::kMethodNotAllowed,
                                       fmt::format("{} does not take {}; use {}", Quoted(request.path),
                                                   Quoted(request.method), row.allow))
                                  .Response();
      response.headers.emplace_back("Allow", row.allow);
      return exchange->Respond(std::move(response));
    }
    throw ApiError(Refusal::kUnknownUrl,
                   fmt::format("there is no {}; docs/api.md lists the routes", Quoted(request.path)));
  } catch (const std::exception& exception) {
    const ApiError error = ToApiError(exception);
    // Probes of health and typing errors in a browser are no requests that were turned away.
    if (service.watchers.metrics != nullptr && request.method == "POST") {
      service.watchers.metrics->Refused(error.code());
    }
    exchange->Respond(error.Response());
  }
}

}  // namespace sluice::serve
