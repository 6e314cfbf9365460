#include "serve/web_page.h"

#include <fmt/format.h>

#include <string_view>

#include "serve/errors.h"
#include "serve/web_files.h"

namespace sluice::serve {
namespace {

constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

}  // namespace

const char* WebMediaType(std::string_view path) {
  if (path.ends_with(".css")) return "text/css; charset=utf-8";
  if (path.ends_with(".js")) return "text/javascript; charset=utf-8";
  return "text/html; charset=utf-8";
}

HttpResponse WebPage(Service& service, const HttpRequest& request) {
  constexpr std::string_view kFolder = "/web/";
  const std::string name = request.path == "/" ? "index.html" : request.path.substr(kFolder.size());
  for (const WebFile& file : WebFiles()) {
    if (!service.options.web_page || name != file.name) continue;
    HttpResponse response;
    response.content_type = WebMediaType(request.path);
    response.headers = {{"Content-Security-Policy", kPolicy},
                        {"X-Content-Type-Options", "nosniff"},
                        {"Referrer-Policy", "no-referrer"},
                        {"Cache-Control", "no-cache"}};
    response.body = file.text;
    return response;
  }
  throw ApiError(Refusal::kUnknownUrl, fmt::format("there is no {} here", Quoted(request.path)));
}

HttpResponse StripAnswer(const Service& service) {
  Json ranks = Json::array();
  for (const engine::RankReport& rank : service.engine.Report().ranks) {
    ranks.push_back({{"rank", rank.rank},
                     {"stage", rank.stage},
                     {"lane", rank.lane},
                     {"activity", rank.activity},
                     {"step", rank.step}});
  }
  HttpResponse response;
  response.body = ToText({{"ranks", std::move(ranks)}});
  return response;
}

}  // namespace sluice::serve
