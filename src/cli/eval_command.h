#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `sluice eval`: accuracy, recall and log-probabilities of any OpenAI-compatible server.
void AddEvalCommand(CLI::App& app);

}  // namespace sluice::cli
