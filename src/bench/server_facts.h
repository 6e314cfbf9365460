#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bench/json.h"
#include "client/http_client.h"

namespace sluice::bench {

// What a server says of itself.
struct ServerFacts {
  std::string model;                  // the first of /v1/models; empty: it names none
  std::optional<int64_t> vocab_size;  // of /get_server_info, which ours has
};
// Throws Error(kNetwork) when nothing answers.
ServerFacts LookAtServer(client::HttpClient& http);

// Where the ranks' time went in the last busy period: `busy_seconds`, `bubble` and `stages` of our server's
// /get_server_info. Null of any other server, and of ours before its first step.
Json BusyPeriodOf(client::HttpClient& http);
// The same as lines of text.
std::string BusyPeriodText(const Json& period);

}  // namespace sluice::bench
