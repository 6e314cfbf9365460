#include "ops/cpu/gemm_kernel.h"

#include "tensor/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/gemm_kernel.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include <cstring>
#include <type_traits>

#include "ops/cpu/microkernel-inl.h"
#include "ops/cpu/row_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::ops::cpu::HWY_NAMESPACE {

// k per pass over the rows: a panel slice of 16 KiB stays in the first-level cache while every row block uses
// it.
constexpr int64_t kSlice = kQuantBlock;
// Rows from which on a bf16 or e4m3 slice is first expanded to fp32 instead of being converted at each use.
constexpr int64_t kExpandRows = 25;
// x values of one pass over the panels of a tile: they stay in the second-level cache.
constexpr int64_t kChunkFloats = int64_t{96} * 1024;

void PackRows(const Tensor& x, const PackedRows& packed, int64_t block) {
  const int64_t rows = packed.RowsOfBlock(block);
  float* out = packed.Values(block);
  float* scales = packed.Scales(block);
  const bool quantized = x.dtype == DType::kU8;
  const auto pack = [&]<class In>(In) {
    for (int64_t k = 0; k < packed.k; k += kQuantBlock) {
      const int64_t n = HWY_MIN(kQuantBlock, packed.k - k);
      float values[kRowBlock][kQuantBlock];
      for (int64_t r = 0; r < rows; ++r) {
        const In* row = x.Row<const In>(block * kRowBlock + r) + k;
        if (scales == nullptr || quantized) {
          Map(
              n, [](V v) { return v; }, values[r], row);
          if (quantized) {
            const auto* of_row = x.Row<const std::byte>(block * kRowBlock + r) + packed.k;
            std::memcpy(&scales[k / kQuantBlock * rows + r], of_row + 4 * (k / kQuantBlock), sizeof(float));
          }
          continue;
        }
        const float scale = PowerOfTwoScale(LargestMagnitude(row, n));
        scales[k / kQuantBlock * rows + r] = scale;
        const V inverse = hn::Set(D(), 1.0F / scale);
        Map(
            n, [inverse](V v) { return RoundToE4M3(hn::Mul(v, inverse)); }, values[r], row);
      }
      if (rows % 4 == 0 && n % 4 == 0) {
        Transpose(values[0], kQuantBlock, rows, n, out + k * rows, rows);
        continue;
      }
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t r = 0; r < rows; ++r) out[(k + i) * rows + r] = values[r][i];
      }
    }
  };
  if (x.dtype == DType::kF8E4M3 || quantized) {
    pack(F8E4M3{});
  } else {
    WithType(x.dtype, pack);
  }
}

// c [rows][32] of one row block += x-slice times w-slice; FP8: c = fma(x-slice times w-slice, scale, c).
template <class W>
HWY_INLINE void MultiplySlice(const float* x, int64_t rows, const W* w, const W* next_w, int64_t k,
                              const float* x_scales, float w_scale, bool first, float* c) {
  ForEachTile<kTileRows>(0, rows, [&]<int kRows>(std::integral_constant<int, kRows>, int64_t row) {
    for (int64_t column = 0; column < kPanel; column += kTileColumns) {
      Tile<kRows, kTileVectors> tile;
      float* out = c + row * kPanel + column;
      if (x_scales != nullptr || first) {
        tile.Clear();
      } else {
        tile.Load(out, kPanel);
      }
      tile.Multiply(x + row, rows, w + column, kPanel, k,
                    row == 0 && next_w != nullptr ? next_w + column : nullptr);
      if (x_scales != nullptr) {
        HWY_UNROLL(16)
        for (int r = 0; r < kRows; ++r) {
          const V scale = hn::Set(D(), x_scales[row + r] * w_scale);
          HWY_UNROLL(16)
          for (int v = 0; v < kTileVectors; ++v) {
            const V sum = first ? hn::Zero(D()) : LoadFloats(out + r * kPanel + v * kLanes);
            tile.sum[r][v] = Fma(tile.sum[r][v], scale, sum);
          }
        }
      }
      tile.Store(out, kPanel);
    }
  });
}

// Adds the slices of [k_begin, k_end) of one panel to c [rows of the tile][32].
template <class W>
HWY_INLINE void MultiplyChunk(const PackedRows& packed, const LinearTile& tile, const W* panel,
                              const float* w_scales, int64_t k_begin, int64_t k_end, float* c) {
  const int64_t rows = HWY_MIN(packed.rows, tile.end_block * kRowBlock) - tile.first_block * kRowBlock;
  const bool expand = !std::is_same_v<W, float> && rows >= kExpandRows;
  alignas(kCacheLine) float expanded[kSlice * kPanel];
  for (int64_t k = k_begin; k < k_end; k += kSlice) {
    const int64_t n = HWY_MIN(kSlice, k_end - k);
    const W* slice = panel + k * kPanel;
    // LoadOperand reads e4m3 as value * 2^-8; scaling is exact, so the block scale takes the 2^8 back.
    const float w_scale = w_scales == nullptr ? 1.0F : w_scales[k / kQuantBlock] * 256.0F;
    if (expand) {
      for (int64_t i = 0; i < n * kPanel; i += kLanes) StoreFloats(LoadOperand(slice + i), expanded + i);
    }
    for (int64_t block = tile.first_block; block < tile.end_block; ++block) {
      const int64_t block_rows = packed.RowsOfBlock(block);
      const float* x = packed.Values(block) + k * block_rows;
      const float* x_scales =
          w_scales == nullptr ? nullptr : packed.Scales(block) + k / kQuantBlock * block_rows;
      float* out = c + (block - tile.first_block) * kRowBlock * kPanel;
      if (expand) {
        MultiplySlice<float>(x, block_rows, expanded, nullptr, n, x_scales, w_scale, k == 0, out);
      } else {
        const W* next =
            block == tile.first_block && k + 2 * kSlice <= packed.k ? slice + kSlice * kPanel : nullptr;
        MultiplySlice(x, block_rows, slice, next, n, x_scales, w_scale, k == 0, out);
      }
    }
  }
}

void Multiply(const PackedRows& packed, const PackedWeight& weight, const LinearTile& tile, const Tensor& y) {
  alignas(kCacheLine) float c[kTilePanels][kTileBlocks * kRowBlock * kPanel];
  const int64_t first_row = tile.first_block * kRowBlock;
  const int64_t end_row = HWY_MIN(packed.rows, tile.end_block * kRowBlock);
  const int64_t chunk = HWY_MAX(kChunkFloats / (end_row - first_row) / kSlice, 1) * kSlice;
  for (int64_t k = 0; k < packed.k; k += chunk) {
    const int64_t k_end = HWY_MIN(packed.k, k + chunk);
    for (int64_t panel = tile.first_panel; panel < tile.end_panel; ++panel) {
      const std::byte* data = weight.Panel(panel);
      float* out = c[panel - tile.first_panel];
      if (weight.dtype() == DType::kF32) {
        MultiplyChunk(packed, tile, reinterpret_cast<const float*>(data), nullptr, k, k_end, out);
      } else if (weight.dtype() == DType::kBF16) {
        MultiplyChunk(packed, tile, reinterpret_cast<const BF16*>(data), nullptr, k, k_end, out);
      } else {
        MultiplyChunk(packed, tile, reinterpret_cast<const F8E4M3*>(data), weight.PanelScales(panel), k,
                      k_end, out);
      }
    }
  }
  WithType(y.dtype, [&]<class Out>(Out) {
    for (int64_t panel = tile.first_panel; panel < tile.end_panel; ++panel) {
      const int64_t column = panel * kPanel;
      const int64_t columns = HWY_MIN(kPanel, weight.rows() - column);
      const float* from = c[panel - tile.first_panel];
      for (int64_t row = first_row; row < end_row; ++row, from += kPanel) {
        Map(
            columns, [](V v) { return v; }, y.Row<Out>(row) + column, from);
      }
    }
  });
}

}  // namespace sluice::ops::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::ops::cpu {

HWY_EXPORT(PackRows);
HWY_EXPORT(Multiply);

void PackRowBlock(const Tensor& x, const PackedRows& packed, int64_t block) {
  HWY_DYNAMIC_DISPATCH(PackRows)(x, packed, block);
}
void MultiplyTile(const PackedRows& packed, const PackedWeight& weight, const LinearTile& tile,
                  const Tensor& y) {
  HWY_DYNAMIC_DISPATCH(Multiply)(packed, weight, tile, y);
}

}  // namespace sluice::ops::cpu
#endif
