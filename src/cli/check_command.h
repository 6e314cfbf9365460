#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `sluice check MODEL`: every defect of a checkpoint directory, a line each on standard output, then
// Error(kModelFiles); or one line "ok: ...".
void AddCheckCommand(CLI::App& app);

}  // namespace sluice::cli
