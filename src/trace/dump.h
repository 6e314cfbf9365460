#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "trace/clock_line.h"
#include "trace/recorder.h"

// A trace file: the events of one rank between two moments. A line of JSON, then the events as they lie in
// memory (trace/event.h), by their begin, the outer before the inner; docs/tracing.md has the fields.
namespace sluice::trace {

inline constexpr const char* kDumpSuffix = ".sltrace";

struct DumpHeader {
  int32_t rank = 0;
  int32_t ranks = 1;  // of the job
  int32_t stage = 0;
  int32_t stages = 1;
  int32_t lane = 0;
  int32_t lanes = 1;
  int32_t visits = 1;  // virtual stages
  std::string host;
  std::string reason;    // why the file was written
  int64_t begin_ns = 0;  // no event begins before or ends after these, by the rank's clock
  int64_t end_ns = 0;
  uint64_t events = 0;
  uint64_t lost = 0;  // events of that time that the ring had overwritten
  std::vector<std::string> names;
  std::vector<ClockPoint> clock;  // none: it is the controller's
};

// Puts what a recorder gave into the order of a file and fills in the times, counts and names of its header.
// The file begins at `begin_ns`, and what began before is cut there; below 0: with the first event. Where
// events are lost it begins behind the last of them. `first_step`: what is of steps before it is left out;
// below 0: nothing.
std::vector<Event> Arrange(RankEvents recorded, int64_t begin_ns, int64_t first_step, DumpHeader& header);

// Throws Error(kUsage) when it cannot be written.
void WriteDump(const std::filesystem::path& file, const DumpHeader& header, const std::vector<Event>& events);

// Reads a trace file event by event, with a buffer of kBuffered of them.
class DumpReader {
 public:
  static constexpr size_t kBuffered = 1024;

  // Throws Error(kUsage) for a file that is not there or not a trace.
  explicit DumpReader(std::filesystem::path file);
  const std::filesystem::path& file() const { return file_; }
  const DumpHeader& header() const { return header_; }
  // Nothing after the last. Throws Error(kUsage), with the number of the event, for a file that ends before
  // that and for an event that cannot be.
  std::optional<Event> Next();

 private:
  void Refill();

  std::filesystem::path file_;
  std::ifstream in_;
  DumpHeader header_;
  std::vector<Event> buffer_;
  size_t at_ = 0;
  uint64_t read_ = 0;
  int64_t last_begin_ns_ = 0;
};

// The trace files that the words of a command line name: files, and those of directories; in the order of
// their ranks. Throws Error(kUsage) when there are none, when they are of several dumps and when two are of
// one rank.
std::vector<std::filesystem::path> FindDumps(const std::vector<std::string>& words);

}  // namespace sluice::trace
