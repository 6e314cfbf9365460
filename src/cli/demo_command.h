#pragma once

#include <CLI/CLI.hpp>

namespace sluice::cli {

// `sluice demo`: what ./demo runs. One prompt through three layouts, the same answer bit for bit, a picture
// of the pipeline, and a server to talk to.
void AddDemoCommand(CLI::App& app);

}  // namespace sluice::cli
