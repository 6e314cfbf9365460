#pragma once

#include <string>

#include "serve/json.h"

namespace sluice::serve {

// Server-sent events, only `data:` and comment lines: a remembered `id:` would turn the comments into empty
// events in the OpenAI Python client.
inline std::string SseEvent(const Json& value) { return "data: " + ToText(value) + "\n\n"; }
inline constexpr const char* kSseDone = "data: [DONE]\n\n";
inline constexpr const char* kSseKeepAlive = ": keep-alive\n\n";
inline constexpr const char* kSseMediaType = "text/event-stream";

}  // namespace sluice::serve
