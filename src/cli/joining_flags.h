#pragma once

#include <CLI/CLI.hpp>

#include "cli/layout_flags.h"

namespace sluice::cli {

// The flags of LayoutFlags that say where ranks of several nodes meet and how they know one another.
void AddJoiningFlags(CLI::App& app, LayoutFlags& flags);

// Throws Error(kUsage) unless they are what a job of flags.nnodes nodes needs: an address that is one
// interface, a secret where there are several nodes. Nothing is listened on that was not asked for.
void CheckJoining(const LayoutFlags& flags);

}  // namespace sluice::cli
