#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `bench serve`, under its group.
void AddBenchServeCommand(CLI::App& group);

}  // namespace sluice::cli
