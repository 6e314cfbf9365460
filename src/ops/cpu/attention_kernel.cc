#include "ops/cpu/attention_kernel.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/checked.h"
#include "tensor/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/attention_kernel.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "ops/cpu/microkernel-inl.h"
#include "ops/cpu/row_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::ops::cpu::HWY_NAMESPACE {

// Key rows are kept in chunks of this many channels, so that the distance of two keys is a constant of the
// kernel and an address needs no register of its own. 576 = latent + rope of every known model: one chunk.
constexpr int64_t kChunk = 576;

// One thread's copies of what a unit reads: queries [chunk][head panel][kChunk][32], keys
// [chunk][64][kChunk], probabilities [64][heads].
struct Workspace {
  Workspace(const AttentionUnit& unit)
      : width(unit.latent + unit.rope),
        chunks((width + kChunk - 1) / kChunk),
        padded_heads((unit.heads + kHeadPanel - 1) / kHeadPanel * kHeadPanel) {
    thread_local Buffer memory;
    const int64_t floats = chunks * kChunk * (padded_heads + kKeyBlock) + (kKeyBlock + 3) * padded_heads;
    if (memory.bytes() < 4 * floats) memory = Buffer(4 * floats);
    queries = reinterpret_cast<float*>(memory.data());
    keys = queries + chunks * kChunk * padded_heads;
    p = keys + chunks * kChunk * kKeyBlock;
    rescale = p + kKeyBlock * padded_heads;
  }
  int64_t ChunkWidth(int64_t chunk) const { return HWY_MIN(kChunk, width - chunk * kChunk); }
  float* Keys(int64_t chunk) const { return keys + chunk * kKeyBlock * kChunk; }
  float* Queries(int64_t chunk, int64_t head) const {
    return queries + chunk * kChunk * padded_heads + head / kHeadPanel * kHeadPanel * ChunkWidth(chunk) +
           head % kHeadPanel;
  }

  int64_t width;
  int64_t chunks;
  int64_t padded_heads;
  float* queries;
  float* keys;
  float* p;
  float* rescale;  // [heads]
};

void LoadQueries(const AttentionUnit& unit, const Workspace& work) {
  WithType(unit.q.dtype, [&]<class In>(In) {
    for (int64_t chunk = 0; chunk < work.chunks; ++chunk) {
      const int64_t n = work.ChunkWidth(chunk);
      for (int64_t h = 0; h < work.padded_heads; ++h) {
        float row[kChunk] = {};
        if (h < unit.heads)
          Map(
              n, [](V v) { return v; }, row, unit.q.Row<const In>(h) + chunk * kChunk);
        float* out = work.Queries(chunk, h);
        for (int64_t i = 0; i < n; ++i) out[i * kHeadPanel] = row[i];
      }
    }
  });
}

const std::byte* KeyAt(const AttentionUnit& unit, int64_t position, int64_t bytes) {
  const int64_t page = unit.pages[position / kPageTokens];
  return unit.cache.base + (page * kPageTokens + position % kPageTokens) * bytes;
}

// Asks for the cached keys of some positions, which lie scattered, before they are gathered.
void PrefetchKeys(const AttentionUnit& unit, std::span<const int32_t> positions) {
  const int64_t bytes = LatentRowBytes(unit.cache.format, unit.latent, unit.rope);
  for (const int32_t position : positions) {
    const std::byte* key = KeyAt(unit, position, bytes);
    for (int64_t i = 0; i < bytes; i += kCacheLine) hwy::Prefetch(key + i);
  }
}

// A cached key, dequantised: latent | rope.
void LoadKey(const AttentionUnit& unit, int64_t position, float* row) {
  const int64_t bytes = LatentRowBytes(unit.cache.format, unit.latent, unit.rope);
  const std::byte* from = KeyAt(unit, position, bytes);
  if (unit.cache.format == CacheFormat::kF32) {
    std::memcpy(row, from, static_cast<size_t>(bytes));
    return;
  }
  if (unit.cache.format == CacheFormat::kBf16) {
    Map(
        unit.latent + unit.rope, [](V v) { return v; }, row, reinterpret_cast<const BF16*>(from));
    return;
  }
  const auto* codes = reinterpret_cast<const F8E4M3*>(from);
  const std::byte* scales = from + unit.latent;
  for (int64_t block = 0; block < unit.latent; block += kQuantBlock, scales += 4) {
    float scale = 0.0F;
    std::memcpy(&scale, scales, 4);
    const V factor = hn::Set(D(), scale);
    Map(
        HWY_MIN(kQuantBlock, unit.latent - block), [factor](V v) { return RoundBF16(hn::Mul(v, factor)); },
        row + block, codes + block);
  }
  Map(
      unit.rope, [](V v) { return v; }, row + unit.latent, reinterpret_cast<const BF16*>(scales));
}

void GatherKeys(const AttentionUnit& unit, std::span<const int32_t> positions, const Workspace& work) {
  for (size_t j = 0; j < positions.size(); ++j) {
    if (work.chunks == 1) {
      LoadKey(unit, positions[j], work.keys + j * kChunk);
      continue;
    }
    thread_local std::vector<float> row;
    row.resize(static_cast<size_t>(work.width));
    LoadKey(unit, positions[j], row.data());
    for (int64_t chunk = 0; chunk < work.chunks; ++chunk) {
      std::copy_n(row.data() + chunk * kChunk, work.ChunkWidth(chunk), work.Keys(chunk) + j * kChunk);
    }
  }
}

// p[j][h] = scale * key_j . query_h, an ascending FMA chain; meanwhile the keys of the next block are asked
// for.
void ScoreKeys(const AttentionUnit& unit, int64_t keys, std::span<const int32_t> next,
               const Workspace& work) {
  const V scale = hn::Set(D(), unit.scale);
  ForEachTile<kTileRows>(0, keys, [&]<int kRows>(std::integral_constant<int, kRows>, int64_t j) {
    if (j < std::ssize(next)) PrefetchKeys(unit, next.subspan(j, HWY_MIN(kRows, std::ssize(next) - j)));
    for (int64_t h = 0; h < work.padded_heads; h += kTileColumns) {
      Tile<kRows, kTileVectors> tile;
      tile.Clear();
      for (int64_t chunk = 0; chunk < work.chunks; ++chunk) {
        tile.template Multiply<kChunk>(work.Keys(chunk) + j * kChunk, 1, work.Queries(chunk, h), kHeadPanel,
                                       work.ChunkWidth(chunk));
      }
      HWY_UNROLL(16)
      for (int r = 0; r < kRows; ++r) {
        HWY_UNROLL(16)
        for (int v = 0; v < kTileVectors; ++v) tile.sum[r][v] = hn::Mul(tile.sum[r][v], scale);
      }
      tile.Store(work.p + j * work.padded_heads + h, work.padded_heads);
    }
  });
}

// Scores become exp(score - largest'); rescale = exp(largest - largest').
void Exponentiate(int64_t keys, const Workspace& work, const PartialSoftmax& out) {
  for (int64_t h = 0; h < work.padded_heads; h += kLanes) {
    const V before = LoadFloats(out.largest + h);
    V largest = before;
    for (int64_t j = 0; j < keys; ++j)
      largest = LargerOrSecond(LoadFloats(work.p + j * work.padded_heads + h), largest);
    const V rescale = Exp(hn::Sub(before, largest));
    V sum = hn::Zero(D());
    for (int64_t j = 0; j < keys; ++j) {
      float* p = work.p + j * work.padded_heads + h;
      const V value = Exp(hn::Sub(LoadFloats(p), largest));
      StoreFloats(value, p);
      sum = hn::Add(sum, value);
    }
    StoreFloats(largest, out.largest + h);
    StoreFloats(rescale, work.rescale + h);
    StoreFloats(Fma(LoadFloats(out.sum + h), rescale, sum), out.sum + h);
  }
}

int64_t PaddedLatent(int64_t latent) { return (latent + kPanel - 1) / kPanel * kPanel; }

// o = o * rescale + sum_j p_j c_j.
void AccumulateValues(const AttentionUnit& unit, int64_t keys, bool first, const Workspace& work,
                      const PartialSoftmax& out) {
  const int64_t stride = PaddedLatent(unit.latent);
  for (int64_t i = 0; i < stride; i += kTileColumns) {
    const float* values = work.Keys(i / kChunk) + i % kChunk;
    ForEachTile<kTileRows>(0, unit.heads, [&]<int kRows>(std::integral_constant<int, kRows>, int64_t h) {
      Tile<kRows, kTileVectors> tile;
      float* o = out.o + h * stride + i;
      if (first) {
        tile.Clear();
      } else {
        tile.Load(o, stride);
        HWY_UNROLL(16)
        for (int r = 0; r < kRows; ++r) {
          const V rescale = hn::Set(D(), work.rescale[h + r]);
          HWY_UNROLL(16)
          for (int v = 0; v < kTileVectors; ++v) tile.sum[r][v] = hn::Mul(tile.sum[r][v], rescale);
        }
      }
      tile.Multiply(work.p + h, work.padded_heads, values, kChunk, keys);
      tile.Store(o, stride);
    });
  }
}

void Attend(const AttentionUnit& unit, const PartialSoftmax& out) {
  const Workspace work(unit);
  LoadQueries(unit, work);
  std::fill_n(out.largest, work.padded_heads, -std::numeric_limits<float>::infinity());
  std::fill_n(out.sum, work.padded_heads, 0.0F);
  for (size_t begin = 0; begin < unit.positions.size(); begin += kKeyBlock) {
    const auto left = unit.positions.subspan(begin);
    const auto positions = left.first(HWY_MIN(size_t{kKeyBlock}, left.size()));
    const auto after = left.subspan(positions.size());
    GatherKeys(unit, positions, work);
    ScoreKeys(unit, std::ssize(positions), after.first(HWY_MIN(size_t{kKeyBlock}, after.size())), work);
    Exponentiate(std::ssize(positions), work, out);
    AccumulateValues(unit, std::ssize(positions), begin == 0, work, out);
  }
}

void Merge(int64_t heads, int64_t latent, const PartialSoftmax& into, const PartialSoftmax& later) {
  const D d;
  const int64_t stride = PaddedLatent(latent);
  for (int64_t h = 0; h < heads; ++h) {
    const V largest_into = hn::Set(d, into.largest[h]);
    const V largest_later = hn::Set(d, later.largest[h]);
    const V largest = LargerOrSecond(largest_later, largest_into);
    const V a = Exp(hn::Sub(largest_into, largest));
    const V b = Exp(hn::Sub(largest_later, largest));
    const V sum = Fma(hn::Set(d, into.sum[h]), a, hn::Mul(hn::Set(d, later.sum[h]), b));
    into.largest[h] = hn::GetLane(largest);
    into.sum[h] = hn::GetLane(sum);
    float* o = into.o + h * stride;
    Map(
        latent, [a, b](V x, V y) { return Fma(x, a, hn::Mul(y, b)); }, o, static_cast<const float*>(o),
        static_cast<const float*>(later.o + h * stride));
  }
}

void Finish(int64_t heads, int64_t latent, const PartialSoftmax& softmax, DType dtype, void* out) {
  WithType(dtype, [&]<class Out>(Out) {
    for (int64_t h = 0; h < heads; ++h) {
      const V sum = hn::Set(D(), softmax.sum[h]);
      Map(
          latent, [sum](V v) { return hn::Div(v, sum); }, static_cast<Out*>(out) + h * latent,
          static_cast<const float*>(softmax.o + h * PaddedLatent(latent)));
    }
  });
}

}  // namespace sluice::ops::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::ops::cpu {

HWY_EXPORT(Attend);
HWY_EXPORT(Merge);
HWY_EXPORT(Finish);

int64_t PartialSoftmax::Floats(int64_t heads, int64_t latent) {
  return 2 * CeilDiv(heads, kHeadPanel) * kHeadPanel + heads * CeilDiv(latent, kPanel) * kPanel;
}

PartialSoftmax PartialSoftmax::At(float* memory, int64_t heads) {
  const int64_t padded = CeilDiv(heads, kHeadPanel) * kHeadPanel;
  return {memory, memory + padded, memory + 2 * padded};
}

void AttendPartition(const AttentionUnit& unit, const PartialSoftmax& out) {
  HWY_DYNAMIC_DISPATCH(Attend)(unit, out);
}
void MergeSoftmax(int64_t heads, int64_t latent, const PartialSoftmax& into, const PartialSoftmax& later) {
  HWY_DYNAMIC_DISPATCH(Merge)(heads, latent, into, later);
}
void FinishSoftmax(int64_t heads, int64_t latent, const PartialSoftmax& softmax, DType dtype, void* out) {
  HWY_DYNAMIC_DISPATCH(Finish)(heads, latent, softmax, dtype, out);
}

}  // namespace sluice::ops::cpu
#endif
