#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `bench` and its parts: serve, prefill, decode, ops, comm, report.
void AddBenchCommand(CLI::App& app);

}  // namespace sluice::cli
