#include "serve/route_table.h"

#include <array>

#include "serve/web_page.h"

namespace sluice::serve {
namespace {

using Answer = HttpResponse (*)(const Service&);

// A route that only looks.
template <Answer answer>
void Show(Service& service, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  exchange->Respond(answer(service));
}

// A route that answers its body at once.
template <HttpResponse (*answer)(Service&, const HttpRequest&)>
void Reply(Service& service, const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
  exchange->Respond(answer(service, request));
}

void ShowModel(Service& service, const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
  exchange->Respond(OneModel(service, request.path.substr(kModelPrefix.size())));
}

constexpr auto kAnyone = Audience::kAnyone;
constexpr auto kUsers = Audience::kUsers;
constexpr auto kControl = Audience::kControl;
constexpr auto kNone = BodyKind::kNone;

constexpr std::array kRoutes{
    RouteRow{"/v1/chat/completions", "POST", kUsers, BodyKind::kChat, "A chat answer, whole or as a stream",
             HandleChat},
    RouteRow{"/v1/chat/completions/render", "POST", kUsers, BodyKind::kChatPrompt,
             "The prompt that a chat would be answered from, as text and tokens", Reply<RenderedChat>},
    RouteRow{"/apply-template", "POST", kUsers, BodyKind::kChatPrompt, "The same under llama-server's name",
             Reply<RenderedChat>},
    RouteRow{"/v1/completions", "POST", kUsers, BodyKind::kCompletion,
             "Text completion, whole or as a stream", HandleCompletion},
    RouteRow{"/generate", "POST", kUsers, BodyKind::kGenerate, "SGLang's native completion", HandleGenerate},
    RouteRow{"/tokenize", "POST", kUsers, BodyKind::kTokenize, "The tokens of a text or of a chat",
             Reply<Tokenized>},
    RouteRow{"/detokenize", "POST", kUsers, BodyKind::kDetokenize, "The text of tokens", Reply<Detokenized>},
    RouteRow{"/tokenizer_info", "GET", kUsers, kNone, "The tokens that begin and end a text",
             Show<TokenizerInfo>},
    RouteRow{"/v1/models", "GET", kUsers, kNone, "The model served", Show<ModelList>},
    RouteRow{kModelPrefix, "GET", kUsers, kNone, "The same entry by its id", ShowModel},
    RouteRow{"/live", "GET", kAnyone, kNone, "200 for as long as the process answers",
             [](Service&, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
               exchange->Respond(Live());
             }},
    RouteRow{"/ready", "GET", kUsers, kNone, "Whether requests are taken and ranks arrive", Show<Ready>},
    RouteRow{"/health", "GET", kUsers, kNone, "The same as /ready", Show<Ready>},
    RouteRow{"/health_generate", "GET", kUsers, kNone, "Whether a token comes out of every stage in time",
             HandleHealthGenerate},
    RouteRow{"/version", "GET", kUsers, kNone, "The version of the program", Show<VersionAnswer>},
    RouteRow{"/get_load", "GET", kUsers, kNone, "How busy the engine is", Show<LoadAnswer>},
    RouteRow{"/get_model_info", "GET", kUsers, kNone, "The model's paths and length", Show<ModelDescription>},
    RouteRow{"/get_server_info", "GET", kUsers, kNone, "Every argument, the engine's limits, the ranks",
             Show<ServerDescription>},
    RouteRow{"/server_info", "GET", kUsers, kNone, "The same as /get_server_info", Show<ServerDescription>},
    RouteRow{"/metrics", "GET", kUsers, kNone, "Prometheus' text format", Show<MetricsText>},
    RouteRow{"/openapi.json", "GET", kUsers, kNone, "This description", Show<OpenApiAnswer>},
    RouteRow{"/strip", "GET", kUsers, kNone, "What every rank did last, for the page's strip",
             Show<StripAnswer>},
    RouteRow{"/", "GET", kAnyone, kNone, "The page for people", Reply<WebPage>},
    RouteRow{"/web/page.css", "GET", kAnyone, kNone, "Its style", Reply<WebPage>},
    RouteRow{"/web/page.js", "GET", kAnyone, kNone, "Its chat", Reply<WebPage>},
    RouteRow{"/web/markdown.js", "GET", kAnyone, kNone, "Its Markdown", Reply<WebPage>},
    RouteRow{"/web/strip.js", "GET", kAnyone, kNone, "Its strip", Reply<WebPage>},
    RouteRow{"/stall_report", "GET", kControl, kNone,
             "Where every rank is and which one keeps others waiting", Show<StallReportAnswer>},
    RouteRow{"/flush_cache", "POST", kControl, kNone, "Forgets every cached prefix", Reply<FlushCache>},
    RouteRow{"/flush_cache", "GET", kControl, kNone, "The same as POST", Reply<FlushCache>},
    RouteRow{"/abort_request", "POST", kControl, BodyKind::kAbort, "Ends one request, or all",
             Reply<AbortRequest>},
    RouteRow{"/start_profile", "POST", kControl, BodyKind::kProfile, "Begins a profile of the ranks",
             HandleStartProfile},
    RouteRow{"/start_profile", "GET", kControl, kNone, "The same as POST without a body", HandleStartProfile},
    RouteRow{"/stop_profile", "POST", kControl, kNone, "Ends the profile and writes its trace files",
             HandleStopProfile},
    RouteRow{"/stop_profile", "GET", kControl, kNone, "The same as POST", HandleStopProfile},
    RouteRow{"/dump_trace", "POST", kControl, BodyKind::kDump, "Writes what the ranks still remember",
             HandleDumpTrace},
};

}  // namespace

std::span<const RouteRow> Routes() { return kRoutes; }

bool Matches(const RouteRow& row, std::string_view path) {
  if (row.path == kModelPrefix) return path.size() > row.path.size() && path.starts_with(row.path);
  return path == row.path;
}

}  // namespace sluice::serve
