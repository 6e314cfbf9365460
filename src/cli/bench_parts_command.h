#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `bench ops` and `bench comm`, under their group: the parts an engine is made of, each alone.
void AddBenchPartsCommands(CLI::App& group);

}  // namespace sluice::cli
