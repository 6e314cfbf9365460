#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trace/dump.h"

namespace sluice::trace {

// Trace files for tests, in a directory of their own that ends with the object.
class DumpFiles {
 public:
  DumpFiles() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-trace-XXXXXX").string();
    directory = mkdtemp(name.data());
  }
  ~DumpFiles() { std::filesystem::remove_all(directory); }
  DumpFiles(const DumpFiles&) = delete;
  DumpFiles& operator=(const DumpFiles&) = delete;

  // The file of a rank of a job of `lanes` lanes a stage.
  std::filesystem::path Write(int rank, int ranks, int lanes, const std::vector<Event>& events,
                              int64_t begin_ns, int64_t end_ns, std::vector<ClockPoint> clock = {}) {
    DumpHeader header;
    header.rank = rank;
    header.ranks = ranks;
    header.stage = rank / lanes;
    header.stages = ranks / lanes;
    header.lane = rank % lanes;
    header.lanes = lanes;
    header.host = "host \"one\"";
    header.reason = "test";
    header.begin_ns = begin_ns;
    header.end_ns = end_ns;
    header.events = events.size();
    header.names = kNames;
    header.clock = std::move(clock);
    const auto file = directory / ("rank-" + std::to_string(rank) + kDumpSuffix);
    WriteDump(file, header, events);
    return file;
  }

  std::filesystem::path directory;
  // By their numbers.
  static inline const std::vector<std::string> kNames{"pass",      "Linear",       "gather",
                                                      "send rows", "receive rows", "next step"};
};

inline Event EventOf(EventKind kind, uint16_t name, int64_t begin_ns, int64_t end_ns, int64_t step = 0,
                     int32_t peer = -1) {
  return {begin_ns, end_ns, step, 64, 0, -1, peer, name, kind, 0};
}

}  // namespace sluice::trace
