#pragma once

#include "serve/json.h"
#include "serve/metrics.h"

namespace sluice::serve {

// Where the time of one answer went, in milliseconds, under llama-server's names and our own: `queue_ms`
// (until the first rows of the prompt were published), `prompt_ms` (from there to the first token),
// `first_token_ms`, `predicted_ms` (from the first token to the last) and `total_ms`, with the numbers of
// tokens and their rates. What has not happened by `now_ns` is null. `cached_tokens` of the prompt were not
// computed.
Json TimingsOf(const RequestRecord& record, int64_t cached_tokens, int64_t now_ns);

}  // namespace sluice::serve
