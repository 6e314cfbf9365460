#pragma once

#include <cstdint>
#include <vector>

namespace sluice::parallel {

inline constexpr int64_t kMaxStages = 128;
inline constexpr int64_t kMaxLanes = 64;
inline constexpr int64_t kMaxVirtualStages = 16;

// The ranks of a job: `stages` pipeline stages (pp) of `lanes` ranks (tp) each. world = stages * lanes;
// rank = stage * lanes + lane. The rows of a step are dealt over all lanes of a stage, and the experts are
// spread over them.
//
// Attention tensor parallelism (atp): `attn_tp` neighbouring lanes form a head group, lanes = cp * attn_tp.
// Its lanes bring their attention queries together, each attends for the rows of all of them with its share
// of the heads, and every row's partial outputs are added on the lane that owns the row.
//
// Virtual stages: a stage owns `virtual_stages` layer ranges, and a step visits it once for each; visit v of
// stage s is virtual stage v * stages + s.
struct Grid {
  int stages = 1;
  int lanes = 1;
  int attn_tp = 1;
  int virtual_stages = 1;

  int world() const { return stages * lanes; }
  int Rank(int stage, int lane) const { return stage * lanes + lane; }
  int StageOf(int rank) const { return rank / lanes; }
  int LaneOf(int rank) const { return rank % lanes; }
  // A lane's place in its head group.
  int HeadShardOf(int lane) const { return lane % attn_tp; }
  int layer_ranges() const { return stages * virtual_stages; }
  // The global ranks of a stage, lane 0 first.
  std::vector<int> RanksOfStage(int stage) const;
  // The global ranks of the head group of `rank`, ascending.
  std::vector<int> RanksOfHeadGroup(int rank) const;

  bool operator==(const Grid&) const = default;
};

// Throws Error(kUsage), with the nearest layout that works, unless every size is at least 1 and no more than
// its limit and tp is divisible by cp. pp, tp, cp, virtual_stages are --pp-size, --tp, --attn-cp-size and
// --pp-virtual-stages; attention tensor parallelism is tp / cp.
Grid MakeGrid(int64_t pp, int64_t tp, int64_t cp, int64_t virtual_stages = 1);

}  // namespace sluice::parallel
