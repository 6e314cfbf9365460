#include "ops/cpu/index_select.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "ops/cpu/index_kernel.h"
#include "ops/cpu/top_k.h"

namespace sluice::ops::cpu {
namespace {

constexpr int64_t kGroupRows = 16;     // rows that share a page once it is transposed
constexpr int64_t kSegmentPages = 16;  // shortest segment of a context worth a unit of its own
constexpr int64_t kUnitsPerThread = 4;

// Consecutive rows of one sequence that must be scored.
struct Group {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t pages = 0;  // that the row furthest on sees

  int64_t end_row() const { return first_row + rows; }
};

// What one thread needs to score a group; kept for its next group.
struct Scratch {
  Buffer memory;
  std::vector<PackedRows> queries;
  IndexPage page;

  void Resize(const IndexerShape& shape, int64_t rows) {
    const int64_t page_floats = kPageTokens * (CeilDiv(shape.dim, 4) * 4 + 1);
    const int64_t floats = page_floats + rows * shape.heads * shape.dim;
    if (memory.bytes() < 4 * floats) memory = Buffer(4 * floats);
    auto* at = reinterpret_cast<float*>(memory.data());
    page.keys = at;
    page.scales = at + page_floats - kPageTokens;
    at += page_floats;
    queries.assign(rows, {});
    for (PackedRows& q : queries) {
      q = {at, nullptr, shape.heads, shape.dim};
      at += shape.heads * shape.dim;
    }
  }
};

class Selector {
 public:
  Selector(const IndexerShape& shape, const Tensor& queries, const Tensor& gates,
           const PagedCache& index_keys, std::span<const RowPlace> places, std::span<const PageTable> pages)
      : shape_(shape),
        queries_(queries),
        gates_(gates),
        index_keys_(index_keys),
        places_(places),
        pages_(pages) {}

  // Offers the keys of pages [first_page, end_page) to the running top-k of each row of the group.
  void Score(const Group& group, int64_t first_page, int64_t end_page, std::span<RunningTopK> best) const {
    thread_local Scratch scratch;
    scratch.Resize(shape_, group.rows);
    for (int64_t r = 0; r < group.rows; ++r) {
      const Tensor heads{QueryRow(group.first_row + r), queries_.dtype, shape_.heads, shape_.dim, shape_.dim};
      for (int64_t block = 0; block < CeilDiv(shape_.heads, kRowBlock); ++block) {
        PackRowBlock(heads, scratch.queries[r], block);
      }
      best[r].Reset(shape_.top_k);
    }
    const PageTable table = pages_[places_[group.first_row].sequence];
    for (int64_t page = first_page; page < end_page; ++page) {
      const int64_t first = page * kPageTokens;
      int64_t filled = 0;
      for (int64_t r = 0; r < group.rows; ++r) filled = std::max(filled, Visible(group.first_row + r, first));
      LoadIndexPage(index_keys_, table[page], shape_.dim, filled, scratch.page);
      for (int64_t r = 0; r < group.rows; ++r) {
        const int64_t row = group.first_row + r;
        const int64_t visible = Visible(row, first);
        if (visible == 0) continue;
        float scores[kPageTokens];
        const bool ahead = r == 0 && page + 1 < end_page && index_keys_.format == CacheFormat::kF32;
        ScorePage(scratch.queries[r], gates_.Row<const float>(row), scratch.page,
                  ahead ? PageKeys(table[page + 1]) : nullptr, scores);
        const int64_t nan = best[r].Offer(scores, visible, first);
        if (nan >= 0) {
          Fail(ErrorKind::kInternal, "the index score of row {} for position {} is not a number", row,
               first + nan);
        }
      }
    }
  }

 private:
  void* QueryRow(int64_t row) const {
    return static_cast<std::byte*>(queries_.data) + row * queries_.stride * SizeOf(queries_.dtype);
  }
  const float* PageKeys(int64_t page) const {
    return reinterpret_cast<const float*>(index_keys_.base) + page * kPageTokens * shape_.dim;
  }
  // Keys of the page that begins at position `first` which a row may see.
  int64_t Visible(int64_t row, int64_t first) const {
    return std::clamp<int64_t>(places_[row].position + 1 - first, 0, kPageTokens);
  }

  const IndexerShape& shape_;
  const Tensor& queries_;
  const Tensor& gates_;
  const PagedCache& index_keys_;
  std::span<const RowPlace> places_;
  std::span<const PageTable> pages_;
};

void WriteSelection(const Tensor& selection, int64_t row, RunningTopK& best) {
  auto* out = selection.Row<int32_t>(row);
  const int64_t count = best.Finish(out);
  std::fill(out + count, out + selection.cols, -1);
}

// Rows with at most top_k visible keys take them all; the others are grouped for scoring.
std::vector<Group> GroupRows(int64_t top_k, std::span<const RowPlace> places, const Tensor& selection) {
  std::vector<Group> groups;
  for (int64_t t = 0; t < std::ssize(places); ++t) {
    const auto [sequence, position] = places[t];
    if (position < top_k) {
      auto* out = selection.Row<int32_t>(t);
      std::iota(out, out + position + 1, 0);
      std::fill(out + position + 1, out + selection.cols, -1);
      continue;
    }
    const int64_t pages = position / kPageTokens + 1;
    if (!groups.empty() && groups.back().end_row() == t && groups.back().rows < kGroupRows &&
        places[groups.back().first_row].sequence == sequence) {
      ++groups.back().rows;
      groups.back().pages = std::max(groups.back().pages, pages);
    } else {
      groups.push_back({t, 1, pages});
    }
  }
  return groups;
}

}  // namespace

void SelectKeys(const IndexerShape& shape, const Tensor& queries, const Tensor& gates,
                const PagedCache& index_keys, std::span<const RowPlace> places,
                std::span<const PageTable> pages, const Tensor& selection, ComputePool& pool) {
  SLUICE_CHECK(selection.cols >= shape.top_k);
  const std::vector<Group> groups = GroupRows(shape.top_k, places, selection);
  const Selector selector(shape, queries, gates, index_keys, places, pages);
  const int64_t count = std::ssize(groups);
  const int64_t wanted_units = kUnitsPerThread * pool.width();
  if (count >= wanted_units || pool.width() == 1) {
    pool.ParallelFor(count, [&](int64_t g) {
      thread_local std::vector<RunningTopK> best(kGroupRows);
      selector.Score(groups[g], 0, groups[g].pages, best);
      for (int64_t r = 0; r < groups[g].rows; ++r)
        WriteSelection(selection, groups[g].first_row + r, best[r]);
    });
    return;
  }

  struct Unit {
    int64_t group = 0;
    int64_t first_page = 0;
    int64_t end_page = 0;
    std::vector<RunningTopK> best;
  };
  std::vector<Unit> units;
  std::vector<int64_t> first_unit;
  for (int64_t g = 0; g < count; ++g) {
    const int64_t segments =
        std::clamp(CeilDiv(wanted_units, count), int64_t{1}, CeilDiv(groups[g].pages, kSegmentPages));
    first_unit.push_back(std::ssize(units));
    for (int64_t s = 0; s < segments; ++s) {
      units.push_back({g, groups[g].pages * s / segments, groups[g].pages * (s + 1) / segments,
                       std::vector<RunningTopK>(groups[g].rows)});
    }
  }
  first_unit.push_back(std::ssize(units));
  pool.ParallelFor(std::ssize(units), [&](int64_t u) {
    selector.Score(groups[units[u].group], units[u].first_page, units[u].end_page, units[u].best);
    for (RunningTopK& best : units[u].best) best.Trim();
  });
  pool.ParallelFor(count, [&](int64_t g) {
    for (int64_t r = 0; r < groups[g].rows; ++r) {
      RunningTopK& best = units[first_unit[g]].best[r];
      for (int64_t u = first_unit[g] + 1; u < first_unit[g + 1]; ++u) best.Append(units[u].best[r]);
      WriteSelection(selection, groups[g].first_row + r, best);
    }
  });
}

}  // namespace sluice::ops::cpu
