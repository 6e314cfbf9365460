#include "ops/reference/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "ops/host_matrix.h"
#include "ops/reference/reference_back_end.h"
#include "ops/reference/values.h"
#include "ops/rope.h"
#include "ops/weight_list.h"

namespace sluice::ops::reference {
namespace {

// A weight as doubles; an FP8 one keeps code values and block scales apart.
class ReferenceWeight final : public Weight {
 public:
  ReferenceWeight(const RawMatrix& raw, Numerics numerics)
      : Weight(raw.rows, raw.cols, raw.dtype == DType::kF8E4M3 && numerics == Numerics::kFp8),
        values(raw.rows * raw.cols) {
    const Tensor view{const_cast<void*>(raw.data), raw.dtype, raw.rows, raw.cols, raw.cols};
    const int64_t blocks_across = (raw.cols + kQuantBlock - 1) / kQuantBlock;
    const int64_t blocks_down = (raw.rows + kQuantBlock - 1) / kQuantBlock;
    if (raw.dtype == DType::kF8E4M3) scales.assign(raw.scales, raw.scales + blocks_down * blocks_across);
    for (int64_t n = 0; n < raw.rows; ++n) {
      for (int64_t k = 0; k < raw.cols; ++k) {
        float value = LoadFloat(view, n, k);
        if (raw.dtype == DType::kF8E4M3) {
          if (!is_fp8()) value *= Scale(n, k);
        } else if (numerics == Numerics::kFp8) {
          value = RoundToBF16(value);
        }
        values[n * raw.cols + k] = value;
      }
    }
  }
  float Scale(int64_t n, int64_t k) const {
    return scales[n / kQuantBlock * ((cols() + kQuantBlock - 1) / kQuantBlock) + k / kQuantBlock];
  }

  std::vector<double> values;  // [rows, cols]
  std::vector<float> scales;
};

Row Multiply(Row x, std::span<const float> x_scales, const ReferenceWeight& w) {
  Row y(w.rows(), 0.0);
  for (int64_t n = 0; n < w.rows(); ++n) {
    for (int64_t k = 0; k < w.cols(); ++k) {
      const double scale = w.is_fp8() ? static_cast<double>(x_scales[k / kQuantBlock]) * w.Scale(n, k) : 1.0;
      y[n] += x[k] * w.values[n * w.cols() + k] * scale;
    }
  }
  return y;
}

// x becomes its codes' values; returns their scales.
std::vector<float> Quantize(std::span<double> x) {
  std::vector<float> scales;
  for (size_t k = 0; k < x.size(); k += kQuantBlock) {
    scales.push_back(QuantizeBlock(x.subspan(k, std::min<size_t>(kQuantBlock, x.size() - k))));
  }
  return scales;
}

Row Multiply(Row x, const ReferenceWeight& w) {
  const std::vector<float> scales = w.is_fp8() ? Quantize(x) : std::vector<float>();
  return Multiply(std::move(x), scales, w);
}

// Row `row` of an Activation's quantised form: the values of K codes and, in front of what fills the row,
// their scales.
Row LoadQuantized(const Tensor& quantized, int64_t row, int64_t cols, std::vector<float>& scales) {
  const auto* codes = quantized.Row<const F8E4M3>(row);
  Row x;
  for (int64_t k = 0; k < cols; ++k) x.push_back(ToFloat(codes[k]));
  scales.resize((cols + kQuantBlock - 1) / kQuantBlock);
  std::memcpy(scales.data(), quantized.Row<const std::byte>(row) + cols, 4 * scales.size());
  return x;
}

// Rounds to `type`, and then to e4m3, in the forms that y has.
void StoreForms(const Activation& y, DType type, int64_t row, Row values) {
  if (y.forms().values) StoreRow(y.values, row, values);
  if (!y.forms().quantized) return;
  for (double& value : values) {
    value = type == DType::kBF16 ? RoundToBF16(static_cast<float>(value)) : static_cast<float>(value);
  }
  const std::vector<float> scales = Quantize(values);
  auto* codes = y.quantized.Row<F8E4M3>(row);
  for (size_t k = 0; k < values.size(); ++k) codes[k] = ToF8E4M3(static_cast<float>(values[k]));
  std::memcpy(y.quantized.Row<std::byte>(row) + values.size(), scales.data(), 4 * scales.size());
}

}  // namespace

std::unique_ptr<Weight> ReferenceOps::Pack(const RawMatrix& raw) {
  ComputePool alone(0);
  return std::make_unique<ReferenceWeight>(HostMatrix(raw, alone).raw(), numerics_);
}
std::unique_ptr<WeightGroup> ReferenceOps::PackGroup(std::span<const RawMatrix> raws) {
  std::vector<std::unique_ptr<Weight>> weights;
  for (const RawMatrix& raw : raws) weights.push_back(Pack(raw));
  return std::make_unique<WeightList>(std::move(weights));
}

void ReferenceOps::Embed(const Tensor& table, int64_t first_id, std::span<const int32_t> ids,
                         const Tensor& y) {
  for (size_t t = 0; t < ids.size(); ++t) {
    StoreRow(y, static_cast<int64_t>(t), LoadRow(table, ids[t] - first_id));
  }
}

void ReferenceOps::Linear(const Activation& x, const Weight& w, const Tensor& y) {
  const auto& weight = dynamic_cast<const ReferenceWeight&>(w);
  const bool quantized = w.is_fp8() && x.forms().quantized;
  for (int64_t t = 0; t < y.rows; ++t) {
    if (quantized) {
      std::vector<float> scales;
      const Row row = LoadQuantized(x.quantized, t, w.cols(), scales);
      StoreRow(y, t, Multiply(row, scales, weight));
    } else {
      StoreRow(y, t, Multiply(LoadRow(x.values, t), weight));
    }
  }
}

void ReferenceOps::GroupedLinear(const Activation& x, const Tensor& groups, const WeightGroup& weights,
                                 const Tensor& y) {
  for (int64_t g = 0; g < groups.rows; ++g) {
    const auto* group = groups.Row<const int32_t>(g);
    const int64_t count = group[1] - group[0];
    Linear(x.RowRange(group[0], count), ListOf(weights)[group[2]], y.RowRange(group[0], count));
  }
}

void ReferenceOps::RmsNorm(const Tensor& x, const Tensor& w, float eps, const Activation& y) {
  for (int64_t t = 0; t < x.rows; ++t) {
    Row row = LoadRow(x, t);
    double squares = 0.0;
    for (const double value : row) squares += value * value;
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(x.cols) + eps);
    for (int64_t i = 0; i < x.cols; ++i) row[i] *= factor * w.At<float>(0, i);
    StoreForms(y, x.dtype, t, std::move(row));
  }
}

void ReferenceOps::AddRmsNorm(const Tensor& delta, const Tensor& x, const Tensor& w, float eps,
                              const Activation& y) {
  Add(delta, x);
  RmsNorm(x, w, eps, y);
}

void ReferenceOps::SwiGlu(const Tensor& gate, const Tensor& up, const Activation& y) {
  for (int64_t t = 0; t < gate.rows; ++t) {
    Row row = LoadRow(gate, t);
    for (int64_t i = 0; i < gate.cols; ++i) row[i] *= LoadFloat(up, t, i) / (1.0 + std::exp(-row[i]));
    StoreForms(y, gate.dtype, t, std::move(row));
  }
}

void ReferenceOps::Add(const Tensor& x, const Tensor& y) {
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t i = 0; i < x.cols; ++i) StoreFloat(y, t, i, LoadFloat(y, t, i) + LoadFloat(x, t, i));
  }
}

void ReferenceOps::CopyRows(const Tensor& x, std::span<const int64_t> source, const Tensor& y) {
  for (int64_t i = 0; i < y.rows; ++i) {
    const int64_t element = SizeOf(x.dtype);
    std::memcpy(static_cast<std::byte*>(y.data) + i * y.stride * element,
                static_cast<const std::byte*>(x.data) + source[i] * x.stride * element, y.cols * element);
  }
}

void ReferenceOps::TakeRows(const Tensor& x, const Tensor& rows, const Tensor& y) {
  for (int64_t i = 0; i < y.rows; ++i) {
    const int64_t source = rows.At<int32_t>(0, i);
    if (source >= 0) CopyRows(x, {&source, 1}, y.RowRange(i, 1));
  }
}

void ReferenceOps::RopeAngles(std::span<const RowPlace> places, std::span<const float> inv_freq,
                              const Tensor& out) {
  for (size_t t = 0; t < places.size(); ++t) {
    RopeRow(places[t].position, inv_freq, out.Row<float>(static_cast<int64_t>(t)));
  }
}

void ReferenceOps::AbsorbQuery(const AttentionShape& shape, const Tensor& q, const WeightGroup& up_keys,
                               const Tensor& angles, const Tensor& q_latent) {
  for (int64_t t = 0; t < q.rows; ++t) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      const Tensor head = q.ColRange(h * shape.query_width(), shape.query_width());
      const Tensor out = q_latent.ColRange(h * shape.latent_width(), shape.latent_width());
      const auto& up_key = dynamic_cast<const ReferenceWeight&>(ListOf(up_keys)[h]);
      StoreRow(out.ColRange(0, shape.latent), t, Multiply(LoadRow(head.ColRange(0, shape.nope), t), up_key));
      Row rope = LoadRow(head.ColRange(shape.nope, shape.rope), t);
      Rotate(rope, angles, t, /*interleaved=*/true);
      StoreRow(out.ColRange(shape.latent, shape.rope), t, rope);
    }
  }
}

void ReferenceOps::ValueUp(const AttentionShape& shape, const Tensor& o_latent, const WeightGroup& up_values,
                           const Tensor& o) {
  for (int64_t t = 0; t < o.rows; ++t) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      const auto& up_value = dynamic_cast<const ReferenceWeight&>(ListOf(up_values)[h]);
      StoreRow(o.ColRange(h * shape.value, shape.value), t,
               Multiply(LoadRow(o_latent.ColRange(h * shape.latent, shape.latent), t), up_value));
    }
  }
}

}  // namespace sluice::ops::reference

namespace sluice::ops {

std::unique_ptr<Ops> MakeReferenceOps(Numerics numerics) {
  return std::make_unique<reference::ReferenceOps>(numerics);
}

}  // namespace sluice::ops
