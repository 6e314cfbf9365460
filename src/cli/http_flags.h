#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "serve/server.h"

namespace sluice::cli {

// The flags of the HTTP server beside its address: who may use it, how, and how long.
struct HttpFlags {
  std::string api_key;
  std::string api_key_file;
  std::string admin_api_key;
  int64_t admin_port = -1;  // -1: not given
  std::vector<std::string> cors_allow_origin;
  std::string ssl_certfile;
  std::string ssl_keyfile;
  int64_t drain_timeout = 30;
  int64_t health_generate_timeout = 20;
  int64_t max_prompt_logprobs = 65536;
};

void AddHttpFlags(CLI::App& app, HttpFlags& flags);

// Fills the options that these flags speak of. Throws Error(kUsage) naming the flag and what would work: a
// key that is too short or kMaskedSecret, a key file that others may read, a certificate without its key, a
// number out of range.
void ApplyHttpFlags(const HttpFlags& flags, serve::ServerOptions& options);

// What --print-config writes for a key. Too short for one, so that it cannot be taken for it.
inline constexpr const char* kMaskedSecret = "***";

// Whether a flag's value is a secret, to be shown nowhere. `name` is without dashes.
bool IsSecret(const std::string& name);

// Who may use the routes, for the log.
std::string AccessLine(const serve::ServerOptions& options);

}  // namespace sluice::cli
