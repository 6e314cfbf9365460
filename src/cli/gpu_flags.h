#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>

#include "cli/layout_flags.h"

namespace sluice::cli {

// The flags of LayoutFlags that are about GPUs.
void AddGpuFlags(CLI::App& app, LayoutFlags& flags);

// Throws Error(kUsage) for values that are not known, and for what is said of GPUs without --ops cuda.
void CheckGpuFlags(const LayoutFlags& flags);

// None for auto.
std::optional<int> SmReserveOf(const LayoutFlags& flags);

// Of --hop-receive, which CheckGpuFlags has seen.
engine::HopReceive HopReceiveOf(const LayoutFlags& flags);

// Where the ranks of a job with --ops cuda run, and what carries their rows.
struct GpuPlacement {
  bool processes = false;  // else threads of the server, all on --base-gpu-id
  int step = 0;            // JobSettings::gpu_step
  engine::DataPlane plane = engine::DataPlane::kHost;
};

// Of a job of `world` ranks, on a host whose process sees `visible` GPUs; --base-gpu-id is one of them:
//
//   threads     asked for by --ranks threads or --gpu-id-step 0; and where nothing is said, for one rank or
//               where there is but one GPU from --base-gpu-id on
//   processes   asked for by --ranks processes, --nnodes or --data-plane; and where nothing is said and every
//               rank finds a GPU of its own
//   NCCL        between processes that each have a GPU of their own, unless --data-plane says host
//
// Everything else throws Error(kUsage) with a sentence that says what would do.
GpuPlacement PlaceOnGpus(const LayoutFlags& flags, int64_t world, int64_t visible);

}  // namespace sluice::cli
