#include "ops/cuda/index_scores.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cuda/index_scores_kernel.h"
#include "ops/cuda/tensor_map.h"

namespace sluice::ops::cuda {
namespace {

constexpr int64_t kLine = 128;  // bytes of one key, and of a row of a tensor map's box
constexpr int64_t kPageLines = kPageTokens * (kIndexDim + 4) / kLine;  // 64 keys, then their scales

}  // namespace

std::vector<QueryGroup> GroupQueries(std::span<const RowPlace> places, int64_t heads) {
  SLUICE_CHECK(heads == 64 || heads == 32, "{} index heads", heads);
  const auto most = static_cast<int32_t>(kQueryColumns / heads);
  std::vector<QueryGroup> groups;
  int32_t tiles = 0;
  for (int32_t row = 0; row < std::ssize(places);) {
    QueryGroup group{row, 1, places[static_cast<size_t>(row)].sequence, 0, tiles};
    while (group.rows < most && row + group.rows < std::ssize(places) &&
           places[static_cast<size_t>(row + group.rows)].sequence == group.sequence) {
      ++group.rows;
    }
    for (int32_t i = 0; i < group.rows; ++i) {
      const int64_t seen = places[static_cast<size_t>(row + i)].position + int64_t{1};
      group.pages = std::max(group.pages, static_cast<int32_t>(CeilDiv(seen, kPageTokens)));
    }
    tiles += static_cast<int32_t>(CeilDiv(int64_t{group.pages}, int64_t{kTilePages}));
    row += group.rows;
    groups.push_back(group);
  }
  return groups;
}

int32_t TilesOf(std::span<const QueryGroup> groups) {
  if (groups.empty()) return 0;
  return groups.back().first_tile +
         static_cast<int32_t>(CeilDiv(int64_t{groups.back().pages}, int64_t{kTilePages}));
}

cudaError_t Enqueue(const IndexScores& work, TileCounter counter, int sms, cudaStream_t stream) {
  SLUICE_CHECK(work.heads == 64 || work.heads == 32, "{} index heads", work.heads);
  SLUICE_CHECK(sms > 0, "{} SMs", sms);
  if (work.rows == 0 || work.tiles == 0) return cudaSuccess;
  // Box rows: the heads of a row of x are rows of 128 bytes here; a page is 64 keys and two lines of scales.
  const CUtensorMap queries =
      MapOf(work.queries, DType::kF8E4M3, work.rows * work.heads, kIndexDim, kIndexDim, kQueryColumns);
  const CUtensorMap keys = MapOf(work.cache, DType::kF8E4M3, work.cache_pages * kPageLines, kLine, kLine,
                                 static_cast<int>(kPageTokens));
  return Launch(work, counter, queries, keys, sms, stream);
}

}  // namespace sluice::ops::cuda
