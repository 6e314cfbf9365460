#include "parallel/grid.h"

#include <algorithm>
#include <numeric>
#include <string_view>

#include "base/error.h"

namespace sluice::parallel {
namespace {

void CheckSize(std::string_view flag, int64_t size, int64_t limit) {
  if (size >= 1 && size <= limit) return;
  Fail(ErrorKind::kUsage, "{} is {}; it must be from 1 to {}: use {} {}", flag, size, limit, flag,
       std::clamp<int64_t>(size, 1, limit));
}

}  // namespace

std::vector<int> Grid::RanksOfStage(int stage) const {
  std::vector<int> ranks(static_cast<size_t>(lanes));
  std::iota(ranks.begin(), ranks.end(), Rank(stage, 0));
  return ranks;
}

Grid MakeGrid(int64_t pp, int64_t tp, int64_t cp) {
  CheckSize("--pp-size", pp, kMaxStages);
  CheckSize("--tp", tp, kMaxLanes);
  CheckSize("--attn-cp-size", cp, kMaxLanes);
  if (tp % cp != 0) {
    Fail(ErrorKind::kUsage,
         "--tp {} cannot be divided into groups of --attn-cp-size {}: use --attn-cp-size {}, or --tp {}", tp,
         cp, tp, cp);
  }
  if (tp != cp) {
    Fail(
        ErrorKind::kUsage,
        "--tp {} with --attn-cp-size {} asks for attention tensor parallelism of {}, which there is not: use "
        "--attn-cp-size {}, or --tp {}",
        tp, cp, tp / cp, tp, cp);
  }
  return {static_cast<int>(pp), static_cast<int>(cp)};
}

}  // namespace sluice::parallel
