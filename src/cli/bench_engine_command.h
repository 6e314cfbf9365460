#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `bench prefill` and `bench decode`, under their group: the engine in this process, without HTTP.
void AddBenchEngineCommands(CLI::App& group);

}  // namespace sluice::cli
