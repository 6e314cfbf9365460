#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `sluice rank`: one rank process, started by `sluice serve`; not for people.
void AddRankCommand(CLI::App& app);

}  // namespace sluice::cli
