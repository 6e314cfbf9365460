#pragma once

#include <string_view>

#include "serve/service.h"

namespace sluice::serve {

// The page at / and its parts under /web/, which are in the program; kUnknownUrl when the server was started
// without it. Scripts and styles come from this server alone, and so the answer's Content-Security-Policy
// says.
HttpResponse WebPage(Service& service, const HttpRequest& request);

// The media type of a file of the page, or of "/".
const char* WebMediaType(std::string_view path);

// What every rank did last, by its heartbeats, for the page's strip: {"ranks": [{"rank", "stage", "lane",
// "activity", "step"}]}. Does not ask the ranks.
HttpResponse StripAnswer(const Service& service);

}  // namespace sluice::serve
