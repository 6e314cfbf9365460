#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>

#include "cli/option_sources.h"

namespace sluice::cli {

// `sluice serve`: the ranks, the engine and the HTTP server, until a signal or the loss of a rank.
// `origins` is filled before the line is parsed and outlives it: --print-config shows it.
void AddServeCommand(CLI::App& app, const Origins& origins);

// The server that the demo leaves up: `model` at pp 2 x cp 2 under the name "demo".
void ServeDemo(const std::filesystem::path& model, int port);

}  // namespace sluice::cli
