#include "ops/cpu/index_kernel.h"

#include <algorithm>
#include <vector>

#include "tensor/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/index_kernel.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "ops/cpu/microkernel-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::ops::cpu::HWY_NAMESPACE {

void LoadPage(const PagedCache& cache, int64_t page, int64_t dim, int64_t count, const IndexPage& out) {
  const std::byte* base = cache.base + page * kPageTokens * IndexRowBytes(cache.format, dim);
  std::fill_n(out.scales, kPageTokens, 1.0F);
  if (cache.format == CacheFormat::kF32 && count == kPageTokens && dim % 4 == 0) {
    Transpose(reinterpret_cast<const float*>(base), dim, kPageTokens, dim, out.keys, kPageTokens);
    return;
  }
  thread_local std::vector<float> rows;
  const int64_t padded_dim = (dim + 3) / 4 * 4;
  rows.resize(static_cast<size_t>(kPageTokens * padded_dim));
  for (int64_t j = 0; j < kPageTokens; ++j) {
    float* row = rows.data() + j * padded_dim;
    if (j >= count) {
      std::fill_n(row, dim, 0.0F);
    } else if (cache.format == CacheFormat::kF32) {
      std::memcpy(row, base + 4 * dim * j, static_cast<size_t>(4 * dim));
    } else {
      Map(
          dim, [](V v) { return v; }, row, reinterpret_cast<const F8E4M3*>(base) + dim * j);
      std::memcpy(out.scales + j, base + kPageTokens * dim + 4 * j, 4);
    }
  }
  Transpose(rows.data(), padded_dim, kPageTokens, padded_dim, out.keys, kPageTokens);
}

void Score(const PackedRows& q, const float* gates, const IndexPage& page, const float* next, float* scores) {
  const D d;
  const int64_t blocks = (q.rows + kRowBlock - 1) / kRowBlock;
  for (int64_t column = 0; column < kPageTokens; column += kTileColumns) {
    V total[kTileVectors];
    for (auto& v : total) v = hn::Zero(d);
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t heads = q.RowsOfBlock(block);
      ForEachTile<kTileRows>(0, heads, [&]<int kRows>(std::integral_constant<int, kRows>, int64_t head) {
        Tile<kRows, kTileVectors> tile;
        tile.Clear();
        const float* ahead = next != nullptr && block == 0 && head == 0 ? next + column : nullptr;
        tile.Multiply(q.Values(block) + head, heads, page.keys + column, kPageTokens, q.k, ahead);
        HWY_UNROLL(16)
        for (int r = 0; r < kRows; ++r) {
          const V gate = hn::Set(d, gates[block * kRowBlock + head + r]);
          HWY_UNROLL(16)
          for (int v = 0; v < kTileVectors; ++v) {
            const V dot = tile.sum[r][v];
            // Not Max: a NaN must stay one.
            const V positive = hn::IfThenElse(hn::Lt(dot, hn::Zero(d)), hn::Zero(d), dot);
            total[v] = Fma(gate, positive, total[v]);
          }
        }
      });
    }
    for (int v = 0; v < kTileVectors; ++v) {
      const int64_t j = column + v * kLanes;
      const V score = hn::Mul(LoadFloats(page.scales + j), total[v]);
      StoreFloats(hn::Add(score, hn::Zero(d)), scores + j);  // -0 + 0 = +0
    }
  }
}

}  // namespace sluice::ops::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::ops::cpu {

HWY_EXPORT(LoadPage);
HWY_EXPORT(Score);

void LoadIndexPage(const PagedCache& cache, int64_t page, int64_t dim, int64_t count, const IndexPage& out) {
  HWY_DYNAMIC_DISPATCH(LoadPage)(cache, page, dim, count, out);
}
void ScorePage(const PackedRows& q, const float* gates, const IndexPage& page, const float* next,
               float* scores) {
  HWY_DYNAMIC_DISPATCH(Score)(q, gates, page, next, scores);
}

}  // namespace sluice::ops::cpu
#endif
