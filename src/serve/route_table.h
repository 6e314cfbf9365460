#pragma once

#include <span>
#include <string_view>

#include "serve/service.h"

namespace sluice::serve {

// Who may use a route; access.h says how that is found out.
enum class Audience {
  kAnyone,   // also without a key
  kUsers,    // with a key, where there are keys
  kControl,  // those who look after the server: the route acts on other people's requests or shows them
};

// What /openapi.json says of the body a route reads.
enum class BodyKind { kNone, kChat, kChatPrompt, kCompletion, kGenerate, kTokenize, kDetokenize, kAbort, kProfile, kDump };

inline constexpr std::string_view kModelPrefix = "/v1/models/";  // the rest of the path is the id

// One method of one path. The router and /openapi.json read the same rows.
struct RouteRow {
  std::string_view path;
  std::string_view method;
  Audience audience;
  BodyKind body;
  std::string_view summary;
  void (*run)(Service&, const HttpRequest&, const std::shared_ptr<Exchange>&);
};

std::span<const RouteRow> Routes();

// Whether a decoded path is that of the row.
bool Matches(const RouteRow& row, std::string_view path);

}  // namespace sluice::serve
