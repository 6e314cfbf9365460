#include "ops/cuda/index_scores.h"

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
  for (int32_t row = 0; row < std::ssize(places);) {
    QueryGroup group{row, 1, places[static_cast<size_t>(row)].sequence};
    while (group.rows < most && row + group.rows < std::ssize(places) &&
           places[static_cast<size_t>(row + group.rows)].sequence == group.sequence) {
      ++group.rows;
    }
    row += group.rows;
    groups.push_back(group);
  }
  return groups;
}

cudaError_t Enqueue(const IndexScores& work, TileCounter counter, int sms, cudaStream_t stream) {
  SLUICE_CHECK(work.heads == 64 || work.heads == 32, "{} index heads", work.heads);
  SLUICE_CHECK(sms > 0, "{} SMs", sms);
  SLUICE_CHECK(work.group_count <= kMostQueryGroups, "{} groups of rows", work.group_count);
  if (work.rows == 0) return cudaSuccess;
  // Box rows: the heads of a row of x are rows of 128 bytes here; a page is 64 keys and two lines of scales,
  // brought together.
  const CUtensorMap queries =
      MapOf(work.queries, DType::kF8E4M3, work.rows * work.heads, kIndexDim, kIndexDim, kQueryBox);
  const CUtensorMap keys = MapOf(work.cache, DType::kF8E4M3, work.cache_pages * kPageLines, kLine, kLine,
                                 static_cast<int>(kPageLines));
  if (work.group_count == 1 && work.rows * work.heads <= kFewColumns && !work.fixed_tiles) {
    return LaunchFew(work, queries, keys, sms, stream);
  }
  return Launch(work, counter, queries, keys, sms, stream);
}

}  // namespace sluice::ops::cuda
