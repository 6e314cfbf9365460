#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::bench {

struct CommFigure {
  std::string op;        // "hop", "all-gather"
  int64_t bytes = 0;     // of a hop; of each rank's part
  double seconds = 0.0;  // of the fastest
  double moved = 0.0;    // bytes that reach one rank
};

struct CommOptions {
  bool tcp = false;  // gloo over the loopback, as between processes; else the thread world
  int ranks = 2;
  std::vector<int64_t> bytes;
  int repeats = 20;
};

// What the CPU data plane costs and carries, between ranks that are threads of this process. A hop goes from
// rank 0 to rank 1 and is timed there and back, halved; an all-gather takes equal parts and is timed from a
// barrier to the last rank's end. The fastest of the repeats.
std::vector<CommFigure> MeasureComm(const CommOptions& options);

}  // namespace sluice::bench
