#include <algorithm>
#include <cstring>

#include "ops/cpu/rows.h"
#include "tensor/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/elementwise.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "ops/cpu/row_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::ops::cpu::HWY_NAMESPACE {

void Embed(const Tensor& table, int64_t first_id, std::span<const int32_t> ids, const Tensor& y,
           int64_t begin, int64_t end) {
  WithTypes(table.dtype, y.dtype, [&]<class In, class Out>(In, Out) {
    for (int64_t t = begin; t < end; ++t) {
      Map(
          y.cols, [](V v) { return v; }, y.Row<Out>(t), table.Row<const In>(ids[t] - first_id));
    }
  });
}

void RmsNorm(const Tensor& x, const Tensor& w, float eps, const Tensor& y, int64_t begin, int64_t end) {
  WithTypes(x.dtype, y.dtype, [&]<class In, class Out>(In, Out) {
    for (int64_t t = begin; t < end; ++t) {
      const V factor = hn::Set(D(), InverseRms(x.Row<const In>(t), x.cols, eps));
      Map(
          x.cols, [factor](V v, V weight) { return hn::Mul(weight, hn::Mul(v, factor)); }, y.Row<Out>(t),
          x.Row<const In>(t), w.Row<const float>(0));
    }
  });
}

void SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& y, int64_t begin, int64_t end) {
  WithTypes(gate.dtype, y.dtype, [&]<class In, class Out>(In, Out) {
    for (int64_t t = begin; t < end; ++t) {
      Map(
          y.cols, [](V g, V u) { return hn::Mul(hn::Mul(g, Sigmoid(g)), u); }, y.Row<Out>(t),
          gate.Row<const In>(t), up.Row<const In>(t));
    }
  });
}

void Add(const Tensor& x, const Tensor& y, int64_t begin, int64_t end) {
  WithTypes(x.dtype, y.dtype, [&]<class In, class Out>(In, Out) {
    for (int64_t t = begin; t < end; ++t) {
      Map(
          y.cols, [](V a, V b) { return hn::Add(b, a); }, y.Row<Out>(t), x.Row<const In>(t),
          y.Row<const Out>(t));
    }
  });
}

void SumTerms(const Tensor& y, std::span<const ExpertTerm> terms, std::span<const int64_t> offsets,
              const Tensor& out, int64_t begin, int64_t end) {
  WithTypes(y.dtype, out.dtype, [&]<class In, class Out>(In, Out) {
    constexpr int64_t kChunk = 256;  // columns whose sums stay in the first-level cache over all terms
    float sums[kChunk];
    for (int64_t i = begin; i < end; ++i) {
      const auto mine = terms.subspan(offsets[i], offsets[i + 1] - offsets[i]);
      for (int64_t column = 0; column < out.cols; column += kChunk) {
        const int64_t n = std::min(kChunk, out.cols - column);
        std::fill_n(sums, n, 0.0F);
        for (size_t j = 0; j < mine.size(); ++j) {
          const V weight = hn::Set(D(), mine[j].weight);
          const In* row = y.Row<const In>(mine[j].row) + column;
          if (j == 0) {
            Map(
                n, [weight](V v) { return hn::Mul(weight, v); }, sums, row);
          } else {
            Map(
                n, [weight](V v, V sum) { return Fma(weight, v, sum); }, sums, row,
                static_cast<const float*>(sums));
          }
        }
        Map(
            n, [](V v) { return v; }, out.Row<Out>(i) + column, static_cast<const float*>(sums));
      }
    }
  });
}

void JoinNodes(std::span<const NodeJoin> joins, const Tensor& nodes, int64_t begin, int64_t end) {
  WithTypes(nodes.dtype, nodes.dtype, [&]<class In, class Out>(In, Out) {
    for (const auto& [left, right, into] : joins) {
      Map(
          end - begin, [](V a, V b) { return hn::Add(a, b); }, nodes.Row<Out>(into) + begin,
          nodes.Row<const In>(left) + begin, nodes.Row<const In>(right) + begin);
    }
  });
}

void Quantize(const Tensor& x, const Tensor& rows, int64_t begin, int64_t end) {
  float values[kQuantBlock];
  WithType(x.dtype, [&]<class In>(In) {
    for (int64_t t = begin; t < end; ++t) {
      auto* codes = rows.Row<F8E4M3>(t);
      std::byte* scales = rows.Row<std::byte>(t) + x.cols;
      for (int64_t block = 0; block < x.cols; block += kQuantBlock, scales += 4) {
        const int64_t n = HWY_MIN(kQuantBlock, x.cols - block);
        Map(
            n, [](V v) { return v; }, values, x.Row<const In>(t) + block);
        const float scale = QuantizeBlock(values, n, codes + block);
        std::memcpy(scales, &scale, 4);
      }
    }
  });
}

void Dequantize(const Tensor& rows, const Tensor& y, int64_t begin, int64_t end) {
  WithType(y.dtype, [&]<class Out>(Out) {
    for (int64_t t = begin; t < end; ++t) {
      const auto* codes = rows.Row<const F8E4M3>(t);
      const std::byte* scales = rows.Row<const std::byte>(t) + y.cols;
      for (int64_t block = 0; block < y.cols; block += kQuantBlock, scales += 4) {
        float scale = 0.0F;
        std::memcpy(&scale, scales, 4);
        const V factor = hn::Set(D(), scale);
        Map(
            HWY_MIN(kQuantBlock, y.cols - block), [factor](V v) { return hn::Mul(v, factor); },
            y.Row<Out>(t) + block, codes + block);
      }
    }
  });
}

// p = sigmoid(logits), choice = p + bias.
void Gate(const float* logits, const float* bias, int64_t n, float* p, float* choice) {
  Map(
      n, [](V v) { return Sigmoid(v); }, p, logits);
  Map(
      n, [](V v, V b) { return hn::Add(v, b); }, choice, static_cast<const float*>(p), bias);
}

void ExpArray(const float* in, int64_t n, float* out) {
  Map(
      n, [](V v) { return Exp(v); }, out, in);
}

}  // namespace sluice::ops::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "ops/cpu/gate.h"

namespace sluice::ops::cpu {

HWY_EXPORT(Embed);
HWY_EXPORT(RmsNorm);
HWY_EXPORT(SwiGlu);
HWY_EXPORT(Add);
HWY_EXPORT(SumTerms);
HWY_EXPORT(JoinNodes);
HWY_EXPORT(Quantize);
HWY_EXPORT(Dequantize);
HWY_EXPORT(Gate);
HWY_EXPORT(ExpArray);

void EmbedRows(const Tensor& table, int64_t first_id, std::span<const int32_t> ids, const Tensor& y,
               int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Embed)(table, first_id, ids, y, begin, end);
}
void RmsNormRows(const Tensor& x, const Tensor& w, float eps, const Tensor& y, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, w, eps, y, begin, end);
}
void SwiGluRows(const Tensor& gate, const Tensor& up, const Tensor& y, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(SwiGlu)(gate, up, y, begin, end);
}
void AddRows(const Tensor& x, const Tensor& y, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Add)(x, y, begin, end);
}
void SumTermsRows(const Tensor& y, std::span<const ExpertTerm> terms, std::span<const int64_t> offsets,
                  const Tensor& out, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(SumTerms)(y, terms, offsets, out, begin, end);
}
void JoinNodesColumns(std::span<const NodeJoin> joins, const Tensor& nodes, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(JoinNodes)(joins, nodes, begin, end);
}
void QuantizeRowsRange(const Tensor& x, const Tensor& rows, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Quantize)(x, rows, begin, end);
}
void DequantizeRowsRange(const Tensor& rows, const Tensor& y, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Dequantize)(rows, y, begin, end);
}
void GateRow(std::span<const float> logits, const float* bias, float* p, float* choice) {
  HWY_DYNAMIC_DISPATCH(Gate)(logits.data(), bias, static_cast<int64_t>(logits.size()), p, choice);
}
void ExpValues(std::span<const float> in, std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(ExpArray)(in.data(), static_cast<int64_t>(in.size()), out.data());
}

}  // namespace sluice::ops::cpu
#endif
