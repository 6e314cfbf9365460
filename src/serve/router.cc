#include <fmt/format.h>

#include <string>
#include <string_view>

#include "serve/errors.h"
#include "serve/route_table.h"
#include "serve/service.h"

namespace sluice::serve {
namespace {

// "GET, HEAD, POST": the methods that a path takes; empty when there is no such path.
std::string MethodsOf(std::string_view path) {
  std::string methods;
  for (const RouteRow& row : Routes()) {
    if (!Matches(row, path)) continue;
    if (!methods.empty()) methods += ", ";
    methods += row.method;
    if (row.method == "GET") methods += ", HEAD";
  }
  return methods;
}

const RouteRow& RouteOf(const HttpRequest& request) {
  for (const RouteRow& row : Routes()) {
    if (Matches(row, request.path) && request.method == row.method) return row;
  }
  const std::string methods = MethodsOf(request.path);
  if (methods.empty()) {
    throw ApiError(
        Refusal::kUnknownUrl,
        fmt::format("there is no {}; /openapi.json and docs/api.md list the routes", Quoted(request.path)));
  }
  throw ApiError(Refusal::kMethodNotAllowed, fmt::format("{} does not take {}; use {}", Quoted(request.path),
                                                         Quoted(request.method), methods))
      .With("Allow", methods);
}

}  // namespace

void Route(Service& service, const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
  try {
    RouteOf(request).run(service, request, exchange);
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
