#include "ops/cpu/gemm.h"

#include <sys/mman.h>

#include <algorithm>

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
  // Units of work are the row tiles times groups of `panels` panels.
  int64_t tiles() const { return CeilDiv(blocks(), kTileBlocks); }
  int64_t groups(int64_t panels) const { return CeilDiv(job->weight->panels(), panels); }
};

// Panels and packed rows are read in strides of many pages; large pages spare the address translation. Only a
// hint.
void PreferLargePages(const Buffer& buffer) {
#ifdef MADV_HUGEPAGE
  if (buffer.bytes() > 0) madvise(buffer.data(), static_cast<size_t>(buffer.bytes()), MADV_HUGEPAGE);
#endif
}

// Memory of one calling thread, kept for the next call.
float* Scratch(int64_t floats) {
  thread_local Buffer buffer;
  if (buffer.bytes() < 4 * floats) {
    buffer = Buffer(4 * std::max<int64_t>(floats, 1 << 16));
    PreferLargePages(buffer);
  }
  return reinterpret_cast<float*>(buffer.data());
}

// Panels per unit of work: as many as leave a few units for each thread.
int64_t PanelsPerUnit(const std::vector<Slab>& slabs, int threads) {
  constexpr int64_t kUnitsPerThread = 6;
  for (int64_t panels = kTilePanels; panels > 1; panels /= 2) {
    int64_t units = 0;
    for (const Slab& slab : slabs) units += slab.tiles() * slab.groups(panels);
    if (units >= kUnitsPerThread * threads) return panels;
  }
  return 1;
}

void RunRound(std::vector<Slab>& slabs, int64_t floats, ComputePool& pool) {
  float* memory = Scratch(floats);
  const int64_t panels = PanelsPerUnit(slabs, pool.width());
  int64_t units = 0;
  std::vector<std::pair<const Slab*, int64_t>> blocks;
  for (Slab& slab : slabs) {
    const int64_t k = slab.job->weight->cols();
    slab.packed = {memory, nullptr, slab.rows, k};
    memory += slab.rows * k;
    if (slab.job->weight->is_fp8()) {
      slab.packed.scales = memory;
      memory += slab.rows * CeilDiv(k, kQuantBlock);
    }
    slab.first_unit = units;
    units += slab.tiles() * slab.groups(panels);
    for (int64_t block = 0; block < slab.blocks(); ++block) blocks.emplace_back(&slab, block);
  }
  pool.ParallelFor(std::ssize(blocks), [&](int64_t i) {
    const auto& [slab, block] = blocks[i];
    PackRowBlock(slab->job->x.RowRange(slab->first_row, slab->rows), slab->packed, block);
  });
  pool.ParallelFor(units, [&](int64_t unit) {
    const auto after = std::upper_bound(slabs.begin(), slabs.end(), unit,
                                        [](int64_t u, const Slab& slab) { return u < slab.first_unit; });
    const Slab& slab = *(after - 1);
    const PackedWeight& weight = *slab.job->weight;
    const int64_t tile = (unit - slab.first_unit) / slab.groups(panels);
    const int64_t group = (unit - slab.first_unit) % slab.groups(panels);
    MultiplyTile(slab.packed, weight,
                 {tile * kTileBlocks, std::min(slab.blocks(), (tile + 1) * kTileBlocks), group * panels,
                  std::min(weight.panels(), (group + 1) * panels)},
                 slab.job->y.RowRange(slab.first_row, slab.rows));
  });
}

// Panel by panel, k by k: out[k][j] = convert(raw[32 panel + j, k], 32 panel + j, k). Memory beyond N stays
// 0.
template <class In, class Out, class Convert>
void FillPanels(const RawMatrix& raw, const Buffer& data, const Convert& convert) {
  const auto* in = static_cast<const In*>(raw.data);
  auto* out = reinterpret_cast<Out*>(data.data());
  for (int64_t first = 0; first < raw.rows; first += kPanel) {
    const int64_t rows = std::min(kPanel, raw.rows - first);
    for (int64_t k = 0; k < raw.cols; ++k, out += kPanel) {
      for (int64_t j = 0; j < rows; ++j) out[j] = convert(in[(first + j) * raw.cols + k], first + j, k);
    }
  }
}

// The kernels read e4m3 codes without a look at the NaN ones.
void RefuseNaN(const RawMatrix& raw) {
  const auto* codes = static_cast<const uint8_t*>(raw.data);
  for (int64_t i = 0; i < raw.rows * raw.cols; ++i) {
    if ((codes[i] & 0x7fU) == 0x7fU) {
      Fail(ErrorKind::kModelFiles,
           "an FP8 weight of {} x {} holds NaN at row {}, column {}; the file is damaged, fetch it again",
           raw.rows, raw.cols, i / raw.cols, i % raw.cols);
    }
  }
}

}  // namespace

PackedWeight::PackedWeight(const RawMatrix& raw, Numerics numerics)
    : Weight(raw.rows, raw.cols, raw.dtype == DType::kF8E4M3 && numerics == Numerics::kFp8),
      dtype_(is_fp8() ? DType::kF8E4M3 : ActivationType(numerics)),
      data_(CeilDiv(raw.rows, kPanel) * kPanel * raw.cols * SizeOf(dtype_)) {
  PreferLargePages(data_);
  const int64_t scale_columns = CeilDiv(raw.cols, kQuantBlock);
  if (raw.dtype == DType::kF8E4M3) {
    RefuseNaN(raw);
    if (is_fp8()) {
      scales_.assign(raw.scales, raw.scales + CeilDiv(raw.rows, kQuantBlock) * scale_columns);
      FillPanels<F8E4M3, F8E4M3>(raw, data_, [](F8E4M3 code, int64_t, int64_t) { return code; });
      return;
    }
  }
  const auto fill = [&]<class In>(In, const auto& value_of) {
    if (dtype_ == DType::kF32) {
      FillPanels<In, float>(raw, data_, value_of);
    } else {
      FillPanels<In, BF16>(raw, data_,
                           [&](In value, int64_t n, int64_t k) { return ToBF16(value_of(value, n, k)); });
    }
  };
  switch (raw.dtype) {
    case DType::kF32:
      fill(float{}, [](float value, int64_t, int64_t) { return value; });
      break;
    case DType::kBF16:
      fill(BF16{}, [](BF16 value, int64_t, int64_t) { return ToFloat(value); });
      break;
    case DType::kF16:
      fill(uint16_t{}, [](uint16_t value, int64_t, int64_t) { return HalfToFloat(value); });
      break;
    case DType::kF8E4M3:
      fill(F8E4M3{}, [&](F8E4M3 code, int64_t n, int64_t k) {
        return ToFloat(code) * raw.scales[n / kQuantBlock * scale_columns + k / kQuantBlock];
      });
      break;
    default:
      Fail(ErrorKind::kInternal, "a weight of {} cannot be packed", NameOf(raw.dtype));
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
