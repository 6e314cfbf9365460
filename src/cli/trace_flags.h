#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "engine/job_settings.h"
#include "engine/local_engine.h"

namespace sluice::cli {

// What the ranks keep of the events of their work, and what is written of them without being asked for.
struct TraceFlags {
  std::string trace_dir;
  double trace_slow_request = 0.0;  // seconds; 0: no request is slow
  int64_t trace_events = 262144;    // 12 MiB a rank
};

void AddTraceFlags(CLI::App& app, TraceFlags& flags);

// Throws Error(kUsage) naming the flag and what would work: a number out of range, a limit without a
// directory, a directory that cannot be made or written to.
void ApplyTraceFlags(const TraceFlags& flags, engine::JobSettings& settings, engine::TraceOptions& options);

}  // namespace sluice::cli
