#include "parallel/grid.h"

#include <algorithm>
#include <numeric>
#include <string_view>

#include "base/checked.h"
#include "base/error.h"

namespace sluice::parallel {
namespace {

void CheckSize(std::string_view flag, int64_t size, int64_t limit) {
  if (size >= 1 && size <= limit) return;
  Fail(ErrorKind::kUsage, "{} is {}; it must be from 1 to {}: use {} {}", flag, size, limit, flag,
       std::clamp<int64_t>(size, 1, limit));
}

// The largest divisor of tp that is no more than cp.
int64_t NearestDivisor(int64_t tp, int64_t cp) {
  int64_t divisor = std::min(tp, cp);
  while (tp % divisor != 0) --divisor;
  return divisor;
}

}  // namespace

std::vector<int> Grid::RanksOfStage(int stage) const {
  std::vector<int> ranks(static_cast<size_t>(lanes));
  std::iota(ranks.begin(), ranks.end(), Rank(stage, 0));
  return ranks;
}

std::vector<int> Grid::RanksOfHeadGroup(int rank) const {
  std::vector<int> ranks(static_cast<size_t>(attn_tp));
  std::iota(ranks.begin(), ranks.end(), rank - HeadShardOf(LaneOf(rank)));
  return ranks;
}

Grid MakeGrid(int64_t pp, int64_t tp, int64_t cp, int64_t virtual_stages) {
  CheckSize("--pp-size", pp, kMaxStages);
  CheckSize("--tp", tp, kMaxLanes);
  CheckSize("--attn-cp-size", cp, kMaxLanes);
  CheckSize("--pp-virtual-stages", virtual_stages, kMaxVirtualStages);
  if (tp % cp != 0) {
    Fail(ErrorKind::kUsage,
         "--tp {} cannot be divided into groups of --attn-cp-size {}: use --attn-cp-size {}, or --tp {}", tp,
         cp, NearestDivisor(tp, cp), CeilDiv(tp, cp) * cp);
  }
  return {static_cast<int>(pp), static_cast<int>(tp), static_cast<int>(tp / cp),
          static_cast<int>(virtual_stages)};
}

}  // namespace sluice::parallel
