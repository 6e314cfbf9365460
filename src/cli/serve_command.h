#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>

namespace sluice::cli {

// `sluice serve`: the ranks, the engine and the HTTP server, until a signal or the loss of a rank.
void AddServeCommand(CLI::App& app);

// The server that the demo leaves up: `model` at pp 2 x cp 2 under the name "demo".
void ServeDemo(const std::filesystem::path& model, int port);

}  // namespace sluice::cli
