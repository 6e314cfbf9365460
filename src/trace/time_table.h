#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "trace/event.h"

namespace sluice::trace {

// Under what a moment of a rank is counted: the innermost event that it lies in, or no event.
enum class Share : uint8_t { kCompute, kCollective, kWait, kHop, kIdle, kOutside };
inline constexpr int kShares = 6;
const char* NameOf(Share share);

// Where the time of one stage's lanes went, in nanoseconds of all of them together.
struct StageTimes {
  int32_t stage = 0;
  int32_t lanes = 0;                                      // with a file
  int64_t total_ns = 0;                                   // from the begin of each lane's file to its end
  std::map<Share, std::map<std::string, int64_t>> parts;  // by the names of events; they add up to total_ns
  int64_t sum_ns() const;
};

struct TimeTable {
  int32_t ranks = 0;  // of the job
  std::vector<int32_t> missing;
  uint64_t lost = 0;
  std::vector<StageTimes> stages;
};

// Of the trace files of one dump, reading each once. Throws Error(kUsage) for a file whose events neither
// nest nor follow each other.
TimeTable TableOf(const std::vector<std::filesystem::path>& files);

// A block for each stage: its shares, and under compute its ops, in hundredths of a percent of the stage's
// time. What is shown adds up to 100.00 % exactly: parts are cut off, and the largest remainders get what is
// missing.
std::string TextOf(const TimeTable& table);
// The same with nanoseconds, as JSON.
std::string JsonOf(const TimeTable& table);

}  // namespace sluice::trace
