#include "ops/cpu/rows.h"
#include "tensor/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/latent_rows.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include <vector>

#include "ops/cpu/row_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::ops::cpu::HWY_NAMESPACE {

template <class In>
HWY_INLINE void Widen(const In* from, int64_t n, float* to) {
  Map(
      n, [](V v) { return v; }, to, from);
}

void RotateQuery(const AttentionShape& shape, const Tensor& q, const Tensor& angles, const Tensor& q_latent,
                 int64_t begin, int64_t end) {
  std::vector<float> pe(shape.rope);
  WithTypes(q.dtype, q_latent.dtype, [&]<class In, class Out>(In, Out) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < shape.heads; ++h) {
        Widen(q.Row<const In>(t) + h * shape.query_width() + shape.nope, shape.rope, pe.data());
        Rotate(pe.data(), angles.Row<const float>(t), shape.rope / 2, /*interleaved=*/true);
        Map(
            shape.rope, [](V v) { return v; }, q_latent.Row<Out>(t) + h * shape.latent_width() + shape.latent,
            static_cast<const float*>(pe.data()));
      }
    }
  });
}

void Latents(Numerics numerics, const AttentionShape& shape, const Tensor& kv, const Tensor& norm, float eps,
             const Tensor& angles, const Tensor& rows, int64_t begin, int64_t end) {
  std::vector<float> c(shape.latent);
  std::vector<float> pe(shape.rope);
  WithType(kv.dtype, [&]<class In>(In) {
    for (int64_t t = begin; t < end; ++t) {
      const In* row = kv.Row<const In>(t);
      const V factor = hn::Set(D(), InverseRms(row, shape.latent, eps));
      Map(
          shape.latent, [factor](V v, V w) { return hn::Mul(w, hn::Mul(v, factor)); }, c.data(), row,
          norm.Row<const float>(0));
      Widen(row + shape.latent, shape.rope, pe.data());
      Rotate(pe.data(), angles.Row<const float>(t), shape.rope / 2, /*interleaved=*/true);

      auto* out = rows.Row<std::byte>(t);
      if (numerics == Numerics::kExact) {
        std::memcpy(out, c.data(), 4 * c.size());
        std::memcpy(out + 4 * c.size(), pe.data(), 4 * pe.size());
        continue;
      }
      if (rows.cols == LatentRowBytes(CacheFormat::kBf16, shape.latent, shape.rope)) {
        const auto narrow = [](const std::vector<float>& from, BF16* to) {
          Map(
              std::ssize(from), [](V v) { return v; }, to, from.data());
        };
        narrow(c, reinterpret_cast<BF16*>(out));
        narrow(pe, reinterpret_cast<BF16*>(out) + shape.latent);
        continue;
      }
      RoundRowToBF16(c.data(), shape.latent);
      std::byte* scales = out + shape.latent;
      for (int64_t block = 0; block < shape.latent; block += kQuantBlock) {
        const float scale = QuantizeBlock(c.data() + block, HWY_MIN(kQuantBlock, shape.latent - block),
                                          reinterpret_cast<F8E4M3*>(out) + block);
        std::memcpy(scales, &scale, 4);
        scales += 4;
      }
      Map(
          shape.rope, [](V v) { return v; }, reinterpret_cast<BF16*>(scales),
          static_cast<const float*>(pe.data()));
    }
  });
}

void IndexQueries(Numerics numerics, const IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                  const Tensor& angles, const Tensor& queries, const Tensor& gates, int64_t begin,
                  int64_t end) {
  const float constant = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.heads * shape.dim)));
  std::vector<float> head(shape.dim);
  WithType(q.dtype, [&]<class In>(In) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < shape.heads; ++h) {
        Widen(q.Row<const In>(t) + h * shape.dim, shape.dim, head.data());
        Rotate(head.data(), angles.Row<const float>(t), shape.rope / 2, shape.rope_interleaved);
        float scale = 1.0F;
        if (numerics == Numerics::kExact) {
          std::memcpy(queries.Row<float>(t) + h * shape.dim, head.data(), 4 * head.size());
        } else {
          RoundRowToBF16(head.data(), shape.dim);
          Hadamard(head.data(), shape.dim);
          RoundRowToBF16(head.data(), shape.dim);
          scale = QuantizeBlock(head.data(), shape.dim, queries.Row<F8E4M3>(t) + h * shape.dim);
        }
        gates.At<float>(t, h) = gate_logits.At<float>(t, h) * constant * scale;
      }
    }
  });
}

void IndexKeys(Numerics numerics, const IndexerShape& shape, const Tensor& k, const Tensor& weight,
               const Tensor& bias, const Tensor& angles, const Tensor& rows, int64_t begin, int64_t end) {
  constexpr float kLayerNormEps = 1e-6F;  // fixed in the official code, not rms_norm_eps
  const auto dim = static_cast<float>(shape.dim);
  std::vector<float> key(shape.dim);
  WithType(k.dtype, [&]<class In>(In) {
    for (int64_t t = begin; t < end; ++t) {
      const In* row = k.Row<const In>(t);
      const V mean = hn::Set(D(), Fold16(
                                      shape.dim, [](V sum, V v) { return hn::Add(sum, v); }, row) /
                                      dim);
      Map(
          shape.dim, [mean](V v) { return hn::Sub(v, mean); }, key.data(), row);
      const float* centered = key.data();
      const V factor = hn::Set(D(), InverseRms(centered, shape.dim, kLayerNormEps));
      Map(
          shape.dim, [factor](V v, V w, V b) { return Fma(hn::Mul(v, factor), w, b); }, key.data(), centered,
          weight.Row<const float>(0), bias.Row<const float>(0));
      if (numerics == Numerics::kFp8) RoundRowToBF16(key.data(), shape.dim);
      Rotate(key.data(), angles.Row<const float>(t), shape.rope / 2, shape.rope_interleaved);

      auto* out = rows.Row<std::byte>(t);
      if (numerics == Numerics::kExact) {
        std::memcpy(out, key.data(), 4 * key.size());
        continue;
      }
      RoundRowToBF16(key.data(), shape.dim);
      Hadamard(key.data(), shape.dim);
      RoundRowToBF16(key.data(), shape.dim);
      const float scale = QuantizeBlock(key.data(), shape.dim, reinterpret_cast<F8E4M3*>(out));
      std::memcpy(out + shape.dim, &scale, 4);
    }
  });
}

}  // namespace sluice::ops::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::ops::cpu {

HWY_EXPORT(RotateQuery);
HWY_EXPORT(Latents);
HWY_EXPORT(IndexQueries);
HWY_EXPORT(IndexKeys);

void RotateQueryRows(const AttentionShape& shape, const Tensor& q, const Tensor& angles,
                     const Tensor& q_latent, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(RotateQuery)(shape, q, angles, q_latent, begin, end);
}
void LatentRowsRange(Numerics numerics, const AttentionShape& shape, const Tensor& kv, const Tensor& norm,
                     float eps, const Tensor& angles, const Tensor& rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Latents)(numerics, shape, kv, norm, eps, angles, rows, begin, end);
}
void IndexQueryRows(Numerics numerics, const IndexerShape& shape, const Tensor& q, const Tensor& gate_logits,
                    const Tensor& angles, const Tensor& queries, const Tensor& gates, int64_t begin,
                    int64_t end) {
  HWY_DYNAMIC_DISPATCH(IndexQueries)(numerics, shape, q, gate_logits, angles, queries, gates, begin, end);
}
void IndexKeyRowsRange(Numerics numerics, const IndexerShape& shape, const Tensor& k, const Tensor& weight,
                       const Tensor& bias, const Tensor& angles, const Tensor& rows, int64_t begin,
                       int64_t end) {
  HWY_DYNAMIC_DISPATCH(IndexKeys)(numerics, shape, k, weight, bias, angles, rows, begin, end);
}

}  // namespace sluice::ops::cpu
#endif
