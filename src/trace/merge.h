#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>
#include <vector>

namespace sluice::trace {

// What a merge has put together.
struct Merged {
  int32_t ranks = 0;             // of the job
  std::vector<int32_t> missing;  // ranks without a file
  uint64_t events = 0;
  uint64_t hops = 0;           // of which both ends are there
  uint64_t lost = 0;           // events that rings had overwritten, of all ranks
  int64_t clock_error_ns = 0;  // two ranks' times are right against each other but for twice this
};

// Takes text piece by piece.
using TextSink = std::function<void(std::string_view)>;

// Writes the trace files of one dump (trace/dump.h) as one document of the trace event format that Perfetto
// and chrome://tracing read: a process for each stage, a thread for each of its lanes, complete events ("X")
// in microseconds on the controller's clock, sorted by their begin, and arrows ("s" to "f") from the sender
// of a hop to the rank that takes its rows. docs/tracing.md has the fields. Memory: a buffer for each file,
// however long they are.
Merged MergeTraces(const std::vector<std::filesystem::path>& files, const TextSink& write);

}  // namespace sluice::trace
