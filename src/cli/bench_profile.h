#pragma once

#include <string>
#include <vector>

#include "bench/json.h"
#include "client/http_client.h"
#include "trace/strip.h"

namespace sluice::cli {

// Begins a profile of the server's ranks by POST /start_profile, whose files go under `output_dir` on the
// server's host. Throws Error(kBadRequest) with the server's sentence.
void StartProfile(client::HttpClient& http, const std::string& output_dir);

// Ends it by POST /stop_profile; the files that the server has written, which only ours names.
std::vector<std::string> StopProfile(client::HttpClient& http);

// The ranks' passes over time, of the trace files of our server; nothing when they are not on this host.
std::vector<trace::Lane> TimelineOf(const std::vector<std::string>& files);

}  // namespace sluice::cli
