#include "ops/cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "ops/cpu/gemm_kernel.h"

namespace sluice::ops::cpu {
namespace {

constexpr int64_t kSlabFloats =
    8 << 20;  // packed x held at once (32 MiB), unless a single tile of rows needs more

// Some rows of one job, packed together.
struct Slab {
  const LinearJob* job = nullptr;
  int64_t first_row = 0;
  int64_t rows = 0;
  PackedRows packed;
  int64_t first_unit = 0;  // of the units of parallel work over all slabs of a round

  int64_t blocks() const { return CeilDiv(rows, kRowBlock); }
  int64_t tiles() const { return CeilDiv(blocks(), kTileBlocks); }
  int64_t units() const { return tiles() * job->weight->panels(); }
};

// Memory of one calling thread, kept for the next call.
float* Scratch(int64_t floats) {
  thread_local Buffer buffer;
  if (buffer.bytes() < 4 * floats) buffer = Buffer(4 * std::max<int64_t>(floats, 1 << 16));
  return reinterpret_cast<float*>(buffer.data());
}

void RunRound(std::vector<Slab>& slabs, int64_t floats, ComputePool& pool) {
  float* memory = Scratch(floats);
  int64_t units = 0;
  std::vector<std::pair<const Slab*, int64_t>> blocks;
  for (Slab& slab : slabs) {
    const int64_t k = slab.job->weight->cols();
    slab.packed = {memory, nullptr, slab.rows, k};
    memory += slab.rows * k;
    if (slab.job->weight->dtype() == DType::kF8E4M3) {
      slab.packed.scales = memory;
      memory += slab.rows * CeilDiv(k, kQuantBlock);
    }
    slab.first_unit = units;
    units += slab.units();
    for (int64_t block = 0; block < slab.blocks(); ++block) blocks.emplace_back(&slab, block);
  }
  pool.ParallelFor(static_cast<int64_t>(blocks.size()), [&](int64_t i) {
    const auto& [slab, block] = blocks[i];
    PackRowBlock(slab->job->x.RowRange(slab->first_row, slab->rows), slab->packed, block);
  });
  pool.ParallelFor(units, [&](int64_t unit) {
    const auto after = std::upper_bound(slabs.begin(), slabs.end(), unit,
                                        [](int64_t u, const Slab& slab) { return u < slab.first_unit; });
    const Slab& slab = *(after - 1);
    const int64_t panels = slab.job->weight->panels();
    const int64_t tile = (unit - slab.first_unit) / panels;
    const int64_t end = std::min(slab.blocks(), (tile + 1) * kTileBlocks);
    MultiplyPanel(slab.packed, tile * kTileBlocks, end, *slab.job->weight, (unit - slab.first_unit) % panels,
                  slab.job->y.RowRange(slab.first_row, slab.rows));
  });
}

}  // namespace

PackedWeight::PackedWeight(const RawMatrix& raw, Numerics numerics)
    : Weight(raw.rows, raw.cols, raw.dtype == DType::kF8E4M3 && numerics == Numerics::kFp8),
      dtype_(is_fp8() ? DType::kF8E4M3 : ActivationType(numerics)),
      data_(CeilDiv(raw.rows, kPanel) * kPanel * raw.cols * SizeOf(dtype_)) {
  const Tensor view{const_cast<void*>(raw.data), raw.dtype, raw.rows, raw.cols, raw.cols};
  const int64_t scale_columns = CeilDiv(raw.cols, kQuantBlock);
  if (is_fp8()) scales_.assign(raw.scales, raw.scales + CeilDiv(raw.rows, kQuantBlock) * scale_columns);
  for (int64_t n = 0; n < raw.rows; ++n) {
    std::byte* out = data_.data() + (n / kPanel * kPanel * raw.cols + n % kPanel) * SizeOf(dtype_);
    for (int64_t k = 0; k < raw.cols; ++k, out += kPanel * SizeOf(dtype_)) {
      if (raw.dtype == DType::kF8E4M3) {
        const F8E4M3 code = view.At<F8E4M3>(n, k);
        if ((code.bits & 0x7fU) == 0x7fU) {
          Fail(ErrorKind::kModelFiles,
               "an FP8 weight of {} x {} holds NaN at row {}, column {}; the file is damaged, fetch it again",
               raw.rows, raw.cols, n, k);
        }
        if (is_fp8()) {
          *out = std::byte{code.bits};
          continue;
        }
        const float value = ToFloat(code) * raw.scales[n / kQuantBlock * scale_columns + k / kQuantBlock];
        std::memcpy(out, &value, 4);
      } else if (dtype_ == DType::kF32) {
        const float value = LoadFloat(view, n, k);
        std::memcpy(out, &value, 4);
      } else {
        const BF16 value = ToBF16(LoadFloat(view, n, k));
        std::memcpy(out, &value, 2);
      }
    }
  }
}

void RunLinears(std::span<const LinearJob> jobs, ComputePool& pool) {
  std::vector<Slab> slabs;
  int64_t floats = 0;
  for (const LinearJob& job : jobs) {
    const int64_t row_floats = job.weight->cols() + CeilDiv(job.weight->cols(), kQuantBlock);
    const int64_t tile_rows = kTileBlocks * kRowBlock;
    int64_t row = 0;
    while (row < job.x.rows) {
      const int64_t room = (kSlabFloats - floats) / row_floats;
      const int64_t left = job.x.rows - row;
      if (room < std::min(left, tile_rows) && !slabs.empty()) {
        RunRound(slabs, floats, pool);
        slabs.clear();
        floats = 0;
        continue;
      }
      const int64_t rows =
          room >= left ? left : std::max(room / tile_rows * tile_rows, std::min(left, tile_rows));
      slabs.push_back({&job, row, rows, {}, 0});
      floats += rows * row_floats;
      row += rows;
    }
  }
  if (!slabs.empty()) RunRound(slabs, floats, pool);
}

}  // namespace sluice::ops::cpu
