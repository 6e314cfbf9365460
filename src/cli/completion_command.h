#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace sluice::cli {

// `sluice completion SHELL`: prints a script that completes subcommands, their flags and, where a flag has
// only a few values, those.
void AddCompletionCommand(CLI::App& app);

// The script for "bash", "zsh" or "fish"; Error(kUsage) for another shell.
std::string CompletionScript(const CLI::App& app, const std::string& shell);

}  // namespace sluice::cli
