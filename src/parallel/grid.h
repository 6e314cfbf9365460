#pragma once

#include <cstdint>
#include <vector>

namespace sluice::parallel {

inline constexpr int64_t kMaxStages = 128;
inline constexpr int64_t kMaxLanes = 64;

// The ranks of a job: `stages` pipeline stages (pp) of `lanes` context-parallel lanes (cp) each.
// world = stages * lanes; rank = stage * lanes + lane. Inside a stage the experts are spread over the lanes.
struct Grid {
  int stages = 1;
  int lanes = 1;

  int world() const { return stages * lanes; }
  int Rank(int stage, int lane) const { return stage * lanes + lane; }
  int StageOf(int rank) const { return rank / lanes; }
  int LaneOf(int rank) const { return rank % lanes; }
  // The global ranks of a stage, lane 0 first.
  std::vector<int> RanksOfStage(int stage) const;

  bool operator==(const Grid&) const = default;
};

// Throws Error(kUsage), with the nearest layout that works, unless tp is divisible by cp, every size is at
// least 1 and no more than its limit, and (attention tensor parallelism not being there) tp == cp.
// pp, tp, cp are --pp-size, --tp and --attn-cp-size.
Grid MakeGrid(int64_t pp, int64_t tp, int64_t cp);

}  // namespace sluice::parallel
