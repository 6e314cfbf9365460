#include "ops/cuda/bf16_keys_plan.h"

#include <algorithm>
#include <numeric>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cuda/bf16_keys.h"
#include "ops/cuda/sparse_attention.h"

namespace sluice::ops::cuda {
namespace {

// Keys are dequantised ahead where the head groups of the rows attend to each so often. A key costs 656 +
// 1,152 bytes, 0.43 ns at 4.2 TB/s; a row and head group of 2,048 keys take 0.144 us less from bf16, 0.07 ns
// for each: equal at 6, and a launch besides. Measured on an H200 over 64K: 18 % longer at 4, 4 % shorter at
// 6, 3 % at 8, 15 % at 16 (docs/kernels/attention.md).
constexpr int64_t kLeastTimes = 8;
// What a launch more for the rows before costs, in keys attended to: 37 us, an estimate. 16 to 32 rows alone
// take 42 to 71 us, and a part of that in one launch with others.
constexpr int64_t kTimesOfLaunch = int64_t{1} << 19;
// So rows behind others are never few (AreFew, at most an item for every two SMs): few rows would keep their
// scores where the bf16 keys are.
static_assert(kTimesOfLaunch >= 144 / 2 * kMostAttended);  // 144: more SMs than a Hopper GPU has in use

// Of a sequence's rows.
struct KeysInUse {
  int64_t rows = 0;
  int64_t pages = 0;     // up to the last position
  int64_t attended = 0;  // keys, for each row and head group
  int64_t Gain() const { return attended - kLeastTimes * pages * kPageTokens; }
};

std::vector<KeysInUse> KeysOfSequences(std::span<const RowPlace> places, size_t sequences, int64_t heads,
                                       int64_t top_k) {
  std::vector<KeysInUse> all(sequences);
  for (const RowPlace& place : places) {
    KeysInUse& keys = all.at(static_cast<size_t>(place.sequence));
    ++keys.rows;
    keys.pages = std::max(keys.pages, place.position / kPageTokens + 1);
    keys.attended += std::min(place.position + int64_t{1}, top_k) * CeilDiv(heads, kTileHeads);
  }
  return all;
}

}  // namespace

Bf16KeysPlan PlanBf16Keys(std::span<const RowPlace> places, std::span<const PageTable> pages, int64_t heads,
                          int64_t top_k, int64_t room) {
  const std::vector<KeysInUse> keys = KeysOfSequences(places, pages.size(), heads, top_k);
  const bool in_order = std::ranges::is_sorted(places, {}, &RowPlace::sequence);
  // The sequences from `first` on, whose keys it gains most to dequantise.
  size_t first = pages.size();
  int64_t first_row = std::ssize(places);
  int64_t best = 0;
  int64_t gain = 0, total = 0, row = std::ssize(places);
  for (size_t i = pages.size(); i-- > 0;) {
    row -= keys[i].rows;
    gain += keys[i].Gain();
    total += keys[i].pages;
    if (total * kBf16PageBytes > room) break;
    if (row > 0 && !in_order) continue;
    const int64_t all = gain - (row > 0 ? kTimesOfLaunch : 0);
    if (all < best) continue;
    best = all;
    first = i;
    first_row = row;
  }
  Bf16KeysPlan plan;
  if (first_row == std::ssize(places)) return plan;
  plan.first_row = first_row;
  for (size_t i = 0; i < pages.size(); ++i) {
    SLUICE_CHECK(keys[i].pages <= std::ssize(pages[i]), "{} pages of sequence {} are seen, and there are {}",
                 keys[i].pages, i, pages[i].size());
    if (i >= first) {
      plan.cache_pages.insert(plan.cache_pages.end(), pages[i].begin(), pages[i].begin() + keys[i].pages);
    }
  }
  plan.ordinals.resize(plan.cache_pages.size());
  std::iota(plan.ordinals.begin(), plan.ordinals.end(), 0);
  size_t next = 0;
  for (size_t i = 0; i < pages.size(); ++i) {
    const auto seen = static_cast<size_t>(i < first ? 0 : keys[i].pages);
    plan.tables.push_back(i < first ? pages[i] : PageTable(plan.ordinals).subspan(next, seen));
    next += seen;
  }
  return plan;
}

}  // namespace sluice::ops::cuda
