#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `sluice checkpoint make DIR`: writes a random DeepSeek-V3.2 checkpoint.
void AddCheckpointCommand(CLI::App& app);

}  // namespace sluice::cli
