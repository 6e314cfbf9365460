#include "ops/reference/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

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

Row Multiply(Row x, const ReferenceWeight& w) {
  Row y(w.rows(), 0.0);
  std::vector<float> x_scales;
  if (w.is_fp8()) {
    for (int64_t k = 0; k < w.cols(); k += kQuantBlock) {
      const int64_t size = std::min(kQuantBlock, w.cols() - k);
      x_scales.push_back(QuantizeBlock(std::span(x).subspan(k, size)));
    }
  }
  for (int64_t n = 0; n < w.rows(); ++n) {
    for (int64_t k = 0; k < w.cols(); ++k) {
      const double scale = w.is_fp8() ? static_cast<double>(x_scales[k / kQuantBlock]) * w.Scale(n, k) : 1.0;
      y[n] += x[k] * w.values[n * w.cols() + k] * scale;
    }
  }
  return y;
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

void ReferenceOps::Linear(const Tensor& x, const Weight& w, const Tensor& y) {
  const auto& weight = dynamic_cast<const ReferenceWeight&>(w);
  for (int64_t t = 0; t < x.rows; ++t) StoreRow(y, t, Multiply(LoadRow(x, t), weight));
}

void ReferenceOps::GroupedLinear(const Tensor& x, const Tensor& groups, const WeightGroup& weights,
                                 const Tensor& y) {
  for (int64_t g = 0; g < groups.rows; ++g) {
    const auto* group = groups.Row<const int32_t>(g);
    const int64_t count = group[1] - group[0];
    Linear(x.RowRange(group[0], count), ListOf(weights)[group[2]], y.RowRange(group[0], count));
  }
}

void ReferenceOps::RmsNorm(const Tensor& x, const Tensor& w, float eps, const Tensor& y) {
  for (int64_t t = 0; t < x.rows; ++t) {
    Row row = LoadRow(x, t);
    double squares = 0.0;
    for (const double value : row) squares += value * value;
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(x.cols) + eps);
    for (int64_t i = 0; i < x.cols; ++i) row[i] *= factor * w.At<float>(0, i);
    StoreRow(y, t, row);
  }
}

void ReferenceOps::SwiGlu(const Tensor& gate, const Tensor& up, const Tensor& y) {
  for (int64_t t = 0; t < gate.rows; ++t) {
    for (int64_t i = 0; i < gate.cols; ++i) {
      const double g = LoadFloat(gate, t, i);
      StoreFloat(y, t, i, static_cast<float>(g / (1.0 + std::exp(-g)) * LoadFloat(up, t, i)));
    }
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

void ReferenceOps::QuantizeRows(const Tensor& x, const Tensor& rows) {
  for (int64_t t = 0; t < x.rows; ++t) {
    Row values = LoadRow(x, t);
    std::byte* scales = rows.Row<std::byte>(t) + x.cols;
    for (int64_t block = 0; block < x.cols; block += kQuantBlock, scales += 4) {
      const int64_t size = std::min(kQuantBlock, x.cols - block);
      const float scale = QuantizeBlock(std::span(values).subspan(block, size));
      std::memcpy(scales, &scale, 4);
    }
    for (int64_t i = 0; i < x.cols; ++i) rows.Row<F8E4M3>(t)[i] = ToF8E4M3(static_cast<float>(values[i]));
  }
}

void ReferenceOps::DequantizeRows(const Tensor& rows, const Tensor& y) {
  for (int64_t t = 0; t < y.rows; ++t) {
    for (int64_t i = 0; i < y.cols; ++i) {
      float scale = 0.0F;
      std::memcpy(&scale, rows.Row<std::byte>(t) + y.cols + 4 * (i / kQuantBlock), 4);
      StoreFloat(y, t, i, ToFloat(rows.Row<F8E4M3>(t)[i]) * scale);
    }
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
