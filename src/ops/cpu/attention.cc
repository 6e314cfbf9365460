#include "ops/cpu/attention.h"

#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "ops/cpu/attention_kernel.h"

namespace sluice::ops::cpu {
namespace {

constexpr int64_t kUnitsPerThread = 8;

// Keys of a row: the entries before the first -1.
std::span<const int32_t> SelectedOf(const Tensor& selection, int64_t row) {
  const auto* begin = selection.Row<const int32_t>(row);
  return {begin, std::find(begin, begin + selection.cols, -1)};
}

// One row and a range of its heads; its partial results lie one after the other.
struct HeadRange {
  int64_t row = 0;
  int64_t first_head = 0;
  int64_t heads = 0;
  std::span<const int32_t> selected;
  float* partials = nullptr;

  int64_t partitions() const { return CeilDiv(std::ssize(selected), kPartition); }
};

// Heads per unit: all, or fewer (whole panels) when a step has too few rows to keep every thread busy.
int64_t HeadsPerUnit(int64_t heads, int64_t units, int64_t width) {
  int64_t per_unit = heads;
  while (units * CeilDiv(heads, per_unit) < width && per_unit > kHeadPanel) {
    per_unit = CeilDiv(CeilDiv(per_unit, 2), kHeadPanel) * kHeadPanel;
  }
  return per_unit;
}

Tensor HeadsOf(const Tensor& rows, int64_t row, int64_t first_head, int64_t heads, int64_t width) {
  auto* data =
      static_cast<std::byte*>(rows.data) + (row * rows.stride + first_head * width) * SizeOf(rows.dtype);
  return {data, rows.dtype, heads, width, width};
}

float* Scratch(int64_t floats) {
  thread_local Buffer buffer;
  if (buffer.bytes() < 4 * floats) buffer = Buffer(4 * floats);
  return reinterpret_cast<float*>(buffer.data());
}

}  // namespace

void SparseAttention(const AttentionShape& shape, const Tensor& q_latent, const PagedCache& latents,
                     std::span<const RowPlace> places, std::span<const PageTable> pages,
                     const Tensor& selection, float scale, const Tensor& o_latent, ComputePool& pool) {
  const int64_t most_partitions = std::max<int64_t>(CeilDiv(selection.cols, kPartition), 1);
  // Rows go in batches, so that their partial results stay few and cached.
  const int64_t batch_rows = CeilDiv(kUnitsPerThread * pool.width(), most_partitions);
  for (int64_t first_row = 0; first_row < q_latent.rows; first_row += batch_rows) {
    const int64_t rows = std::min(batch_rows, q_latent.rows - first_row);
    const int64_t heads = HeadsPerUnit(shape.heads, rows * most_partitions, pool.width());
    const int64_t partial_floats = PartialSoftmax::Floats(heads, shape.latent);
    const int64_t ranges_per_row = CeilDiv(shape.heads, heads);
    float* memory = Scratch(rows * ranges_per_row * most_partitions * partial_floats);

    std::vector<HeadRange> ranges;
    std::vector<std::pair<int64_t, int64_t>> units;  // (range, partition)
    for (int64_t row = first_row; row < first_row + rows; ++row) {
      for (int64_t head = 0; head < shape.heads; head += heads) {
        ranges.push_back(
            {row, head, std::min(heads, shape.heads - head), SelectedOf(selection, row), memory});
        for (int64_t part = 0; part < ranges.back().partitions(); ++part) {
          units.emplace_back(std::ssize(ranges) - 1, part);
          memory += partial_floats;
        }
      }
    }
    pool.ParallelFor(std::ssize(units), [&](int64_t i) {
      const auto& [index, part] = units[i];
      const HeadRange& range = ranges[index];
      const int64_t first = part * kPartition;
      const int64_t keys = std::min(kPartition, std::ssize(range.selected) - first);
      const AttentionUnit unit{
          range.heads,
          shape.latent,
          shape.rope,
          scale,
          HeadsOf(q_latent, range.row, range.first_head, range.heads, shape.latent_width()),
          latents,
          pages[places[range.row].sequence],
          range.selected.subspan(first, keys)};
      AttendPartition(unit, PartialSoftmax::At(range.partials + part * partial_floats, range.heads));
    });
    pool.ParallelFor(std::ssize(ranges), [&](int64_t i) {
      const HeadRange& range = ranges[i];
      const Tensor out = HeadsOf(o_latent, range.row, range.first_head, range.heads, shape.latent);
      if (range.selected.empty()) {
        std::fill_n(static_cast<std::byte*>(out.data), out.bytes(), std::byte{0});
        return;
      }
      const PartialSoftmax whole = PartialSoftmax::At(range.partials, range.heads);
      for (int64_t part = 1; part < range.partitions(); ++part) {
        MergeSoftmax(range.heads, shape.latent, whole,
                     PartialSoftmax::At(range.partials + part * partial_floats, range.heads));
      }
      FinishSoftmax(range.heads, shape.latent, whole, out.dtype, out.data);
    });
  }
}

}  // namespace sluice::ops::cpu
