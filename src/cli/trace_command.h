#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `sluice trace merge|table|svg`: what can be made of the trace files of the ranks (trace/dump.h).
void AddTraceCommand(CLI::App& app);

}  // namespace sluice::cli
