#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "client/http_client.h"

namespace sluice::cli {

// Which server a command talks to, and how: --url or --host and --port, --api-key, --timeout, --ca-file,
// --insecure.
struct ServerFlags {
  std::string url;
  std::string host = "127.0.0.1";
  int64_t port = 30000;
  std::string api_key;
  int64_t timeout = 600;
  std::string ca_file;
  bool insecure = false;
};

void AddServerFlags(CLI::App& app, ServerFlags& flags);

// Error(kUsage) naming the flag. A base URL as OpenAI's clients take it, with /v1 at its end, means the same
// as one without.
client::ClientOptions ConnectionOf(const ServerFlags& flags);
client::ClientOptions ConnectionTo(const std::string& url, const ServerFlags& flags);

}  // namespace sluice::cli
