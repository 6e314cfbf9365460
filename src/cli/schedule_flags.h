#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>

#include "checkpoint/checkpoint.h"
#include "cli/gpu_memory.h"
#include "cli/layout_flags.h"
#include "cli/memory_plan.h"
#include "engine/job_settings.h"
#include "engine/local_engine.h"

// The part of LayoutFlags that says how much memory the ranks use and how requests become steps.
namespace sluice::cli {

void AddScheduleFlags(CLI::App& app, LayoutFlags& flags);

// Throws Error(kUsage), naming the flag and what would work, for values out of range and for flags that
// contradict each other.
void CheckScheduleFlags(const LayoutFlags& flags, const checkpoint::ModelConfig& config);

// Of --loader-threads or --model-loader-extra-config. Throws Error(kUsage) when the latter is not the JSON it
// may be.
int LoaderThreadsOf(const LayoutFlags& flags);

// The most that a step will hold. With whole prompts on a GPU, where memory for a step is taken at start: one
// prompt as long as the context, beside a row of every other request.
step::StepLimits LargestStepOf(const LayoutFlags& flags, const checkpoint::ModelConfig& config);

// Cache pages of every rank: those of --max-total-tokens, or what --mem-fraction-static leaves after the
// weights, and on a GPU after all that ranks take there; without either twice the context, or what half of
// the host's free memory holds, if that is less; on a GPU as with --mem-fraction-static 0.9.
int64_t CachePagesOf(const LayoutFlags& flags, const engine::JobSettings& settings,
                     const checkpoint::Checkpoint& checkpoint);

// How the memory of this host is used, for the start-up log; `settings` has its cache pages.
MemoryPlan MemoryOf(const LayoutFlags& flags, const engine::JobSettings& settings,
                    const checkpoint::Checkpoint& checkpoint);

// The same of this host's GPUs that have ranks, with --ops cuda: all with the same pages. Throws
// Error(kMemory).
std::vector<GpuMemoryPlan> GpuMemoryOf(const LayoutFlags& flags, const engine::JobSettings& settings,
                                       const checkpoint::Checkpoint& checkpoint);

// What the scheduler is told. Rows of a step: --chunked-prefill-size; with -1 as many as the cache can hold,
// on a GPU those of settings.largest_step.
engine::EngineOptions EngineOptionsOf(const LayoutFlags& flags, const engine::JobSettings& settings);

}  // namespace sluice::cli
