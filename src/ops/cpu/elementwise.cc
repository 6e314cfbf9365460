#include <algorithm>
#include <cstring>
#include <type_traits>

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

// Row `row` of y, of `cols` channels that are rounded to In, in every form that it has. fill(column, n, to)
// computes n channels from `column` on.
template <class In, class Fill>
HWY_INLINE void StoreForms(const Activation& y, int64_t row, int64_t cols, const Fill& fill) {
  if (!y.forms().quantized) {
    WithType(y.values.dtype, [&]<class Out>(Out) { fill(0, cols, y.values.Row<Out>(row)); });
    return;
  }
  auto* codes = y.quantized.Row<F8E4M3>(row);
  auto* scales = y.quantized.Row<std::byte>(row) + cols;
  float values[kQuantBlock];
  for (int64_t column = 0; column < cols; column += kQuantBlock, scales += 4) {
    const int64_t n = HWY_MIN(kQuantBlock, cols - column);
    fill(column, n, values);
    if constexpr (std::is_same_v<In, BF16>) RoundRowToBF16(values, n);
    if (y.forms().values) {
      Map(
          n, [](V v) { return v; }, y.values.Row<In>(row) + column, static_cast<const float*>(values));
    }
    const float scale = QuantizeBlock(values, n, codes + column);
    std::memcpy(scales, &scale, 4);
  }
}

void RmsNorm(const Tensor& x, const Tensor& w, float eps, const Activation& y, int64_t begin, int64_t end) {
  WithType(x.dtype, [&]<class In>(In) {
    for (int64_t t = begin; t < end; ++t) {
      const In* row = x.Row<const In>(t);
      const V factor = hn::Set(D(), InverseRms(row, x.cols, eps));
      StoreForms<In>(y, t, x.cols, [&](int64_t column, int64_t n, auto* to) {
        Map(
            n, [factor](V v, V weight) { return hn::Mul(weight, hn::Mul(v, factor)); }, to, row + column,
            w.Row<const float>(0) + column);
      });
    }
  });
}

void SwiGlu(const Tensor& gate, const Tensor& up, const Activation& y, int64_t begin, int64_t end) {
  WithType(gate.dtype, [&]<class In>(In) {
    for (int64_t t = begin; t < end; ++t) {
      StoreForms<In>(y, t, gate.cols, [&](int64_t column, int64_t n, auto* to) {
        Map(
            n, [](V g, V u) { return hn::Mul(hn::Mul(g, Sigmoid(g)), u); }, to,
            gate.Row<const In>(t) + column, up.Row<const In>(t) + column);
      });
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
HWY_EXPORT(Gate);
HWY_EXPORT(ExpArray);

void EmbedRows(const Tensor& table, int64_t first_id, std::span<const int32_t> ids, const Tensor& y,
               int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Embed)(table, first_id, ids, y, begin, end);
}
void RmsNormRows(const Tensor& x, const Tensor& w, float eps, const Activation& y, int64_t begin,
                 int64_t end) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, w, eps, y, begin, end);
}
void SwiGluRows(const Tensor& gate, const Tensor& up, const Activation& y, int64_t begin, int64_t end) {
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
void GateRow(std::span<const float> logits, const float* bias, float* p, float* choice) {
  HWY_DYNAMIC_DISPATCH(Gate)(logits.data(), bias, static_cast<int64_t>(logits.size()), p, choice);
}
void ExpValues(std::span<const float> in, std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(ExpArray)(in.data(), static_cast<int64_t>(in.size()), out.data());
}

}  // namespace sluice::ops::cpu
#endif
