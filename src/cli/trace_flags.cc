#include "cli/trace_flags.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/error.h"
#include "cli/human_size.h"

namespace sluice::cli {
namespace {

constexpr int64_t kFewestEvents = 1024;
constexpr int64_t kMostEvents = 4 << 20;  // 192 MiB, which a control frame can still carry

}  // namespace

void AddTraceFlags(CLI::App& app, TraceFlags& flags) {
  const char* group = "Traces";
  app.add_option("--trace-dir", flags.trace_dir,
                 "Directory for trace files: of profiles without an output_dir, and by itself when a rank "
                 "stalls or the job is lost")
      ->group(group);
  app.add_option("--trace-slow-request", flags.trace_slow_request,
                 "Seconds from which on a request is slow and what the ranks did is written to --trace-dir; "
                 "0: none is")
      ->group(group);
  app.add_option("--trace-events", flags.trace_events, "Events that every rank keeps, of 48 bytes each")
      ->transform(HumanCount())
      ->group(group);
}

void ApplyTraceFlags(const TraceFlags& flags, engine::JobSettings& settings, engine::TraceOptions& options) {
  if (flags.trace_events < kFewestEvents || flags.trace_events > kMostEvents) {
    Fail(ErrorKind::kUsage, "--trace-events {} is out of range: use {} to {}", flags.trace_events,
         kFewestEvents, kMostEvents);
  }
  if (!(flags.trace_slow_request >= 0.0) || flags.trace_slow_request > 1e7) {
    Fail(ErrorKind::kUsage, "--trace-slow-request {} is out of range: use seconds from 0 to 10000000",
         flags.trace_slow_request);
  }
  if (flags.trace_slow_request > 0.0 && flags.trace_dir.empty()) {
    Fail(ErrorKind::kUsage, "--trace-slow-request {} has nowhere to write to: use it with --trace-dir",
         flags.trace_slow_request);
  }
  settings.trace_events = static_cast<size_t>(flags.trace_events);
  if (flags.trace_dir.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(flags.trace_dir, error);
  if (error || access(flags.trace_dir.c_str(), W_OK | X_OK) != 0) {
    Fail(ErrorKind::kUsage, "--trace-dir {} cannot be written to: {}", flags.trace_dir,
         error ? error.message() : std::strerror(errno));
  }
  settings.events_on_failure = true;
  options = {std::filesystem::absolute(flags.trace_dir), flags.trace_slow_request};
}

}  // namespace sluice::cli
