#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `sluice doctor`: what this host, its network and its GPUs offer a job, a line each with a verdict on
// standard output. Ends with code 1 when one of them is bad.
void AddDoctorCommand(CLI::App& app);

}  // namespace sluice::cli
